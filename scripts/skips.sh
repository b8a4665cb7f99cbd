# SPDX-License-Identifier: GPL-2.0-only
# What scripts/check says of tests that were skipped: those of pytest ctest calls passed, and of those of GoogleTest it
# does not say why. Read in by it, and by a test.

# One line of all reasons, each with how many tests it has; nothing where no test was skipped.
# $1: the log of ctest, of pytests that were given -rs
skips() {
	[ -r "$1" ] || return 0
	awk '
		function skipped(why, count) {
			if (!(why in of)) order[++reasons] = why
			of[why] += count
			total += count
		}
		# pytest, at the end of all its tests.
		/^SKIPPED \[[0-9]+\] / {
			count = substr($2, 2) + 0
			sub(/^SKIPPED \[[0-9]+\] [^ ]+: /, "")
			skipped($0, count)
		}
		# GoogleTest, at the end of each: the lines before it say why, after one that says where.
		/^\[ RUN      \] / { why = ""; inside = 0 }
		/^\[  SKIPPED \] .* \([0-9]+ ms\)$/ {
			skipped(why == "" ? "no reason is given" : why, 1)
			inside = 0
		}
		inside && $0 != "" { why = why (why == "" ? "" : " ") $0 }
		/:[0-9]+: Skipped$/ { why = ""; inside = 1 }
		END {
			if (!total) exit
			printf "%d %s skipped: ", total, total == 1 ? "test was" : "tests were"
			for (i = 1; i <= reasons; i++) printf("%s%s (%d)", (i > 1 ? "; " : ""), order[i], of[order[i]])
			print ""
		}' "$1"
}
