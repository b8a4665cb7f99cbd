# SPDX-License-Identifier: GPL-2.0-only
# What scripts/check says of tests that pytest skipped: ctest calls them passed. Read in by it, and by a test.

# One line of all reasons, each with how many tests it has; nothing where no test was skipped.
# $1: the log of ctest, of a pytest that was given -rs
skips() {
	[ -r "$1" ] || return 0
	awk '
		/^SKIPPED \[[0-9]+\] / {
			count = substr($2, 2) + 0
			sub(/^SKIPPED \[[0-9]+\] [^ ]+: /, "")
			if (!($0 in of)) order[++reasons] = $0
			of[$0] += count
			total += count
		}
		END {
			if (!total) exit
			printf "%d %s skipped by pytest: ", total, total == 1 ? "test was" : "tests were"
			for (i = 1; i <= reasons; i++) printf("%s%s (%d)", (i > 1 ? "; " : ""), order[i], of[order[i]])
			print ""
		}' "$1"
}
