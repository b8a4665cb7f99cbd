# SPDX-License-Identifier: GPL-2.0-only
# What scripts/demo and scripts/check install on a Debian machine. Read in by both, which say first who
# they are: `program=NAME`. Nothing here needs more than a Debian that has apt.

# shellcheck disable=SC2154 # the program that reads this in says it
say() { echo "$program: $*" >&2; }
fail() { say "$*"; exit 1; }

# Ends the program, in words, for any other user than root.
need_root() {
	[ "$(id -u)" = 0 ] || fail "$1; run it as root"
}

# Says now and then how much apt-get has fetched: a mirror may be slow. The program that ends this may not wait for sleep;
# and one that is killed cannot end this.
tell_progress() {
	before=$(fetched_mib)
	while kill -0 $$ 2>/dev/null && sleep "${every_s:-30}" >/dev/null 2>&1; do
		come=$(($(fetched_mib) - before))
		# apt may throw away what it has installed.
		[ "$come" -ge 0 ] || come=0
		say "apt-get is still at work; $come MiB of packages have come"
	done
}
# Files come and go while they are counted.
fetched_mib() {
	counted=$(du -sm /var/cache/apt/archives 2>/dev/null) || :
	mib=${counted%%[!0-9]*}
	echo "${mib:-0}"
}
# Nothing that happens to it is a failure.
stop_telling() { kill "$teller" 2>/dev/null || :; }

# Installs those of the packages that are missing. $@: names of packages
need_packages() {
	missing=
	for package in "$@"; do
		case $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) in
		?i*) ;; # whatever is wanted of it, such as that it is kept back
		*) missing="$missing $package" ;;
		esac
	done
	[ -n "$missing" ] || return 0
	need_root "these packages are missing:$missing"
	say "installing$missing (some minutes, by the network)"
	# The index may be old, or not be there at all: what apt says counts after it was fetched.
	export DEBIAN_FRONTEND=noninteractive
	# shellcheck disable=SC2086 # names of packages, each a word
	set -- apt-get -qq -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 install \
		--no-install-recommends $missing
	tell_progress &
	teller=$!
	trap stop_telling EXIT
	if "$@" >/dev/null 2>&1 || { apt-get -qq update >&2 && "$@" >&2; }; then
		trap - EXIT
		stop_telling
		return 0
	fi
	fail "apt-get cannot install$missing; it says above why. Mend that, and start again"
}
