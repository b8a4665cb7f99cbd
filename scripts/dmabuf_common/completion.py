# SPDX-License-Identifier: GPL-2.0-only
"""Programs' completion for bash, made of what --help is made of."""

import argparse


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands by name, where the program has any; the first name of each."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    """All options that begin with two dashes."""
    return sorted(
        word for action in parser._actions for word in action.option_strings if word.startswith("--")
    )


def completion(parsers: list[argparse.ArgumentParser]) -> str:
    """A file for bash-completion: commands, options, the words that an option takes, else names of files."""
    lines = [
        "# Completion for bash; made of the programs' own --help.",
        "_libdmabuf() {",
        '\tlocal word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command= i',
        "\tfor ((i = 1; i < COMP_CWORD; i++)); do",
        "\t\t[[ ${COMP_WORDS[i]} == -* ]] || { command=${COMP_WORDS[i]}; break; }",
        "\tdone",
        "\tlocal words=",
        '\tcase "${1##*/} $command $before" in',
    ]
    for parser in parsers:
        for name, command in {"*": parser, **commands_of(parser)}.items():
            for action in command._actions:
                if action.option_strings and action.choices:
                    some = " ".join(map(str, action.choices))
                    for option in action.option_strings:
                        place = '"*"' if name == "*" else name
                        lines.append(f'\t"{parser.prog} {place} {option}")')
                        lines.append(f'\t\tCOMPREPLY=($(compgen -W "{some}" -- "$word")); return ;;')
    lines += ["\tesac", '\tcase "${1##*/} $command" in']
    for parser in parsers:
        commands = commands_of(parser)
        for name, command in commands.items():
            lines.append(f'\t"{parser.prog} {name}") words="{" ".join(options_of(command))}" ;;')
        lines.append(f'\t"{parser.prog} "*) words="{" ".join([*commands, *options_of(parser)])}" ;;')
    lines += [
        "\tesac",
        '\tCOMPREPLY=($(compgen -W "$words" -- "$word"))',
        '\t[[ $word == -* || -z $command && ${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY+=($(compgen -f -- "$word"))',
        "}",
        f"complete -o filenames -F _libdmabuf {' '.join(parser.prog for parser in parsers)}",
    ]
    return "\n".join(lines) + "\n"
