# SPDX-License-Identifier: GPL-2.0-only
"""A program's page of the manual and its completion for bash, made of what --help is made of."""

import argparse
import re
from collections.abc import Iterator

# "examples:" or "exit status: 0 …" at the start of a line of an epilog begins a section.
_SECTION = re.compile(r"^([a-z][a-z ]*):\s*(.*)$")


def _text(words: str) -> str:
    """As roff takes it."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-")
    escaped = re.sub(r"[^\x00-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", escaped)
    return re.sub(r"^([.'])", r"\\&\1", escaped, flags=re.MULTILINE)


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands by name, where the program has any; the first name of each."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _helps(parser: argparse.ArgumentParser) -> dict[str, str]:
    """What each command does, in a line."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return {made.dest: made.help or "" for made in action._choices_actions}
    return {}


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    """All options that begin with two dashes."""
    return sorted(
        word for action in parser._actions for word in action.option_strings if word.startswith("--")
    )


def _usage(parser: argparse.ArgumentParser) -> str:
    text = " ".join(parser.format_usage().split())
    return text.removeprefix("usage: ")


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    made = argparse.HelpFormatter(parser.prog)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or action.help == argparse.SUPPRESS:
            continue
        if action.option_strings:
            head = ", ".join(action.option_strings)
            if action.nargs != 0:
                head += " " + made._format_args(action, made._get_default_metavar_for_optional(action))
        else:
            head = made._format_args(action, made._get_default_metavar_for_positional(action))
        yield ".TP"
        yield f".B {_text(head)}"
        yield _text(made._expand_help(action) if action.help else "(no more is said of it)")


def _epilog(text: str) -> Iterator[str]:
    """The sections of an epilog; what stands before the first is one more of the description."""
    filled = False
    for line in text.strip("\n").splitlines():
        begun = _SECTION.match(line)
        if begun:
            if filled:
                yield ".fi"
            yield f".SH {begun[1].upper()}"
            yield ".nf"
            filled = True
            line = begun[2]
            if not line:
                continue
        elif not filled:
            yield ".SH NOTES"
            yield ".nf"
            filled = True
        yield _text(line)
    if filled:
        yield ".fi"


def page(parser: argparse.ArgumentParser, version: str, section: int = 1, see: tuple[str, ...] = ()) -> str:
    """The page, in roff's man macros. see: other pages, as "fio(1)"."""
    name = parser.prog
    commands, helps = commands_of(parser), _helps(parser)
    about = " ".join((parser.description or "").split())
    first = about.split(". ")[0].rstrip(".")
    lines = [
        '.\\" Made of the program\'s own --help.',
        f'.TH {name.upper()} {section} "" "libdmabuf {version}" "User Commands"',
        ".SH NAME",
        f"{_text(name)} \\- {_text(first[:1].lower() + first[1:])}",
        ".SH SYNOPSIS",
        _text(_usage(parser)),
        ".SH DESCRIPTION",
        _text(about),
    ]
    own = list(_arguments(parser))
    if own:
        lines += [".SH OPTIONS", *own]
    if commands:
        lines.append(".SH COMMANDS")
    for word, command in commands.items():
        lines += [f".SS {_text(word)}", _text(_usage(command)), ".P"]
        lines.append(_text(helps.get(word, "") or command.description or ""))
        lines += list(_arguments(command))
    lines += list(_epilog(parser.epilog or ""))
    if see:
        lines += [".SH SEE ALSO", _text(", ".join(see))]
    return "\n".join(line for line in lines if line) + "\n"


def page_of_text(name: str, what: str, text: str, version: str, see: tuple[str, ...]) -> str:
    """The page of a program that has no parser in Python: its --help, as it is."""
    lines = [f'.TH {name.upper()} 1 "" "libdmabuf {version}" "User Commands"', ".SH NAME"]
    lines += [f"{_text(name)} \\- {_text(what)}", ".SH SYNOPSIS", ".nf", _text(text.strip("\n")), ".fi"]
    lines += [".SH SEE ALSO", _text(", ".join(see))]
    return "\n".join(lines) + "\n"


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
