# SPDX-License-Identifier: MIT
# Completes the command line of trainfs in bash; bash-completion loads it when `trainfs` is completed first.
# What lies in a mount (jobs, drafts, models) are files, which the shell completes by itself.

# The names of the configured remotes, as `trainfs config` shows them; none if that fails. Uses `words`.
_trainfs_remotes() { # PROGRAM
	local i config=()
	for ((i = 1; i < ${#words[@]}; i++)); do
		case ${words[i]} in
		-c | --config) config=(-c "${words[i + 1]/#\~\//$HOME/}") ;;
		--config=*) config=(-c "${words[i]#--config=}") ;;
		esac
	done
	"${1/#\~\//$HOME/}" "${config[@]}" config 2>/dev/null </dev/null |
		awk '/^[^ ]/ {inside = $0 == "remotes:"} inside && /^  [^ ].*:$/ {gsub(/[ ":]/, ""); print}'
}

# Where trainfs is mounted, a line each, in the form in which $cur has been begun.
_trainfs_mounts() {
	local place type _
	while read -r _ place type _; do
		[[ $type == fuse.trainfs ]] || continue
		printf -v place %b "$place"
		case $cur in
		'~'*) place=${place/#"$HOME"\//\~/} ;;
		/* | '') ;;
		*) place=${place#"$PWD"/} ;;
		esac
		printf '%s\n' "$place"
	done </proc/self/mounts
}

# Takes the lines of standard input that begin with $cur.
_trainfs_offer_lines() {
	local line begun=${cur//\\/}
	while IFS= read -r line; do
		[[ $line != "$begun"* ]] || COMPREPLY+=("$line")
	done
}

# The last of the mount options in $cur, which may be a list; those that stand in it are not offered again.
_trainfs_mount_options() {
	local before='' last=$cur name given value
	local names=(ro allow_other xattr config= setuid= debug auto_unmount noexec exec sync async dirsync noatime)
	if [[ $cur == *,* ]]; then
		before=${cur%,*},
		last=${cur##*,}
	fi
	case $last in
	config=*)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "${last#*=}")
		given=config=
		;;
	setuid=*)
		mapfile -t COMPREPLY < <(compgen -u -- "${last#*=}")
		given=setuid=
		;;
	*)
		for name in "${names[@]}"; do
			[[ ,$before == *",$name"* ]] || given+="$name "
		done
		mapfile -t COMPREPLY < <(compgen -W "$given" -- "$last")
		given=
		compopt -o nospace
		;;
	esac
	# Readline replaces what follows the last `=`, where that separates words.
	value=$before$given
	[[ $COMP_WORDBREAKS != *=* || $value != *=* ]] || value=${value##*=}
	COMPREPLY=("${COMPREPLY[@]/#/$value}")
}

# The command of this line, and how many arguments it has before the one that is completed; 0 for the command itself.
_trainfs_find_command() {
	local i
	command='' n_arguments=0
	for ((i = 1; i < cword; i++)); do
		case ${words[i]} in
		-c | --config | -o | --options) ((i++)) ;;
		-*) ;;
		*)
			if [[ -z $command ]]; then
				command=${words[i]}
			else
				((n_arguments++))
			fi
			;;
		esac
	done
}

_trainfs_arguments() { # PROGRAM
	case $command:$n_arguments in
	:0) mapfile -t COMPREPLY < <(compgen -W 'mount unmount check config help' -- "$cur") ;;
	mount:0)
		_filedir -d
		_trainfs_offer_lines < <(_trainfs_remotes "$1" | sed 's/$/:/')
		__ltrim_colon_completions "$cur"
		;;
	mount:1) _filedir -d ;;
	unmount:0 | umount:0)
		compopt -o filenames
		_trainfs_offer_lines < <(_trainfs_mounts)
		;;
	check:0) _trainfs_offer_lines < <(_trainfs_remotes "$1") ;;
	help:0) mapfile -t COMPREPLY < <(compgen -W 'mount unmount check config' -- "$cur") ;;
	esac
}

_trainfs_option_names() {
	local options='-c --config -h --help'
	case $command in
	'') options+=' -V --version' ;;
	mount) options+=' -f --foreground -d --debug -o --options' ;;
	unmount | umount) options+=' -l --lazy' ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
}

_trainfs() {
	local cur prev words cword command n_arguments
	# shellcheck disable=SC2034 # _init_completion sets it
	local split
	_init_completion -s -n := || return
	_trainfs_find_command
	case $prev in
	-c | --config) _filedir ;;
	-o | --options) _trainfs_mount_options ;;
	*)
		if [[ $cur == -* ]]; then
			_trainfs_option_names
		else
			_trainfs_arguments "$1"
		fi
		;;
	esac
} && complete -F _trainfs trainfs
