"""The command line of ``trainbench cnn``, on absl.flags, and its help."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from absl import flags as absl_flags

from trainbench.cnn.flags import DROP, FLAGS, GROUPS, KEEP, NOTE, OURS, Flag
from trainbench.cnn.flags.params import ParamError, Params, make_params, unknown_flag
from trainbench.cnn.flags.retired import ALWAYS_ON

_TRUE, _FALSE = ("true", "t", "1", "yes", "y"), ("false", "f", "0", "no", "n")
USAGE = """\
usage: trainbench cnn [--flag=value ...]

Trains or evaluates an image classifier on synthetic images, CIFAR-10 or ImageNet and prints
images per second. The flags are those of tf_cnn_benchmarks.

Example: trainbench cnn --model=resnet50 --batch_size=32 --num_batches=50 --device=cpu
Confidence interval:         trainbench cnn --model=resnet50 --repeat=5 --result_json=a.json
Has the speed changed?       trainbench compare a.json b.json
Largest batch that fits:     trainbench cnn --model=resnet50 --auto_batch_size
A table and a plot:          trainbench cnn --sweep=sweep.csv --sweep_models=resnet50,vgg16
                             --sweep_batch_sizes=8,16,32 --sweep_precisions=fp32,bf16
Flags from a file:           trainbench cnn --flagfile=resnet50.flags (see --helpfull)"""
_HELP = ("help", "helpshort", "helpfull")


@dataclass(frozen=True)
class Parsed:
    """The parameters, or the text that was asked for instead."""

    params: Params
    help: str | None = None


def parse(argv: Sequence[str]) -> Parsed:
    """Parameters from the arguments after the program's name.

    Raises:
        ParamError: an unknown flag (with the nearest known one), a value of the wrong type, an
            argument that belongs to no flag, or a ``--flagfile`` that cannot be read.
    """
    # absl's global FLAGS belong to whoever imports this package.
    values = _flag_values()
    try:
        positional = values(["trainbench cnn", *argv])[1:]
    except (absl_flags.Error, ValueError) as error:
        if not any(values[name].value for name in _HELP):
            raise ParamError(_problem(error, [*FLAGS, "flagfile", "undefok"])) from None
    if any(values[name].value for name in _HELP):
        return Parsed(make_params(), help=help_text(full=bool(values["helpfull"].value)))
    if positional:
        # Most often "--distortions False", which would leave the flag on.
        raise ParamError(f"Received unknown positional arguments: {positional}")
    texts = {name: values[name].value for name in FLAGS}
    params = make_params(
        **{name: _value(FLAGS[name], text) for name, text in texts.items() if text is not None}
    )
    target = params.stop_at_top_1_accuracy
    if target is not None and target > 1:
        raise ParamError(
            f"--stop_at_top_1_accuracy={texts['stop_at_top_1_accuracy']}: wanted a share of the "
            "images from 0 to 1, such as 0.759"
        )
    return Parsed(params)


def argv_of(params: Params) -> list[str]:
    """Arguments that ``parse`` turns into ``params`` again."""
    argv = []
    for name, value in params.changed().items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        argv.append(f"--{name}={text}")
    return argv


def help_text(*, full: bool = False) -> str:
    """Every flag by concern, with its default and what has become of it; absl's own if ``full``."""
    parts = [USAGE]
    for group in GROUPS:
        parts.append(f"{group.title}:\n" + "\n".join(_help(flag) for flag in group.flags))
    if full:
        parts.append("Of every program on absl:\n" + absl_flags.FlagValues().get_help(prefix="  "))
    return "\n\n".join(parts)


def _flag_values() -> absl_flags.FlagValues:
    """The grammar: every flag holds its text, as given; types and bounds are the table's."""
    values, text = absl_flags.FlagValues(), absl_flags.ArgumentParser[str]()
    values.set_gnu_getopt()
    for flag in FLAGS.values():
        boolean = flag.kind == "boolean"
        values[flag.name] = absl_flags.Flag(text, None, flag.name, None, flag.help, boolean=boolean)
    for name, reason in ALWAYS_ON.items():
        values[name] = absl_flags.BooleanFlag(name, True, reason)
    for name in _HELP:
        values[name] = absl_flags.BooleanFlag(name, False, name, short_name={"help": "h"}.get(name))
    return values


def _problem(error: Exception, known: Sequence[str]) -> str:
    if isinstance(error, absl_flags.UnrecognizedFlagError):
        return unknown_flag(error.flagname, known)
    return str(error).removeprefix("ERROR:: ")


def _value(flag: Flag, text: str) -> Any:
    kinds = {"integer": int, "float": float}
    if flag.kind == "boolean":
        return _boolean(flag, text)
    if flag.kind == "list":
        return [part for part in text.split(",") if part]
    if flag.kind not in kinds:
        return text
    if text in ("", "None"):
        return flag.default
    try:
        return kinds[flag.kind](text)
    except ValueError:
        raise ParamError(
            f"Param {flag.name} value of {text!r} is not of type {flag.kind}"
        ) from None


def _boolean(flag: Flag, text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ParamError(f"Param {flag.name} value of {text!r} is not true or false")


def _help(flag: Flag) -> str:
    values = f" ({', '.join(value or chr(39) * 2 for value in flag.values)})" if flag.values else ""
    name = f"--[no]{flag.name}" if flag.kind == "boolean" else f"--{flag.name}"
    fate = {KEEP: "", OURS: "", NOTE: " No effect: ", DROP: " Refused: "}.get(
        flag.verdict, " Now: "
    )
    remark = f"{fate}{flag.remark}." if flag.remark and fate else ""
    text = f"{flag.help}{values} Default: {_shown(flag.default)}.{remark}"
    body = textwrap.fill(text, 94, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return f"  {name}\n{body}"


def _shown(value: Any) -> str:
    if value in (None, "", ()):
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
