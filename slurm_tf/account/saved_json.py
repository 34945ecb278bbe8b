"""Reads what `sacct --json` printed as rows of fields, as sacct's text has them: of Slurm 21.08 to 25.11.

The shapes differ: numbers are bare or {"set", "infinite", "number"} (since 23.02), states are words or lists of words
(since 23.11), what is absent is null, {} or "". What a job lacks is an empty field, so unknown.
"""

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence

from slurm_tf.account.diagnostics import Examples
from slurm_tf.account.saved_text import SavedText
from slurm_tf.errors import AccountingError

COLUMNS = (
    "JobID", "JobIDRaw", "State", "Cluster", "SLUID", "Submit", "Eligible", "Start", "End", "ElapsedRaw", "Suspended",
    "User", "Account", "Partition", "QOS", "WCKey", "ExitCode", "TimelimitRaw", "Restarts", "AllocTRES", "ReqMem",
    "TotalCPU", "UserCPU", "SystemCPU", "MaxRSS", "MaxRSSNode", "AveRSS", "NTasks", "TRESUsageInTot",
    "ConsumedEnergyRaw", "NodeList", "NNodes", "Reason", "JobName", "Comment", "AdminComment", "Extra", "SubmitLine",
    "WorkDir",
)  # fmt: skip
_DECODER = json.JSONDecoder()
_BLANK = " \t\r\n"
# NO_VAL64 and INFINITE64 stand for no number, -2 for the former where it is printed with a sign
_NO_NUMBER = 2**63
_MIB = 1024**2


class _Text:
    """The text of a file from a place on; more of it is read where a value is not complete yet."""

    def __init__(self, saved: SavedText) -> None:
        self._saved, self._text, self._at = saved, "", 0
        # names may hold bytes that are no UTF-8
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode

    def sign(self) -> str:
        """Return the next character that is no blank, and stay before it; "" at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _BLANK:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def take(self, signs: str) -> str:
        """Return the next character that is no blank if it is one of `signs`. Raises ValueError."""
        sign = self.sign()
        if not sign or sign not in signs:
            raise ValueError(f"found {self._text[self._at : self._at + 60]!r} where one of {signs!r} belongs")
        self._at += 1
        return sign

    def value(self) -> object:
        """Return the next value. Raises ValueError if there is none, or if the text ends inside it."""
        self.sign()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except ValueError:
                if not self._more():
                    raise
            else:
                self._at = end
                return value

    def _more(self) -> bool:
        block = self._saved.read()
        self._text, self._at = self._text[self._at :] + self._decode(block), 0
        return bool(block)


def rows(saved: SavedText, unreadable: Examples) -> Iterator[list[str]]:
    """Yield a row of COLUMNS for each job, and then one for each of its steps.

    Raises AccountingError if it is no output of `sacct --json`. Jobs that cannot be read are added to `unreadable`.
    """
    text, found = _Text(saved), False
    try:
        for job in _jobs(text):
            found = True
            if isinstance(job, dict) and isinstance(job.get("job_id"), int):
                yield from _rows(job)
            else:
                unreadable.add(f"job without an id: {json.dumps(job)[:200]}")
    except ValueError as error:
        if not found:
            raise AccountingError(
                f"it is no JSON of sacct: {error}", 'an object with a list "jobs"', "sacct --json > FILE",
                where=saved.where,
            ) from error  # fmt: skip
        unreadable.add(f"the file ends inside a job, or is no JSON there: {error}")


def _jobs(text: _Text) -> Iterator[object]:
    """Yield the elements of "jobs" of each object in a text. Raises ValueError."""
    known = False
    while text.sign():
        text.take("{")
        while text.sign() != "}":
            key = text.value()
            text.take(":")
            if key == "jobs":
                known = True
                text.take("[")
                while text.sign() != "]":
                    yield text.value()
                    if text.sign() != "]":
                        text.take(",")
                text.take("]")
            else:
                text.value()
            if text.sign() != "}":
                text.take(",")
        text.take("}")
    if not known:
        raise ValueError('it has no "jobs"')


def _rows(job: Mapping[str, object]) -> Iterator[list[str]]:
    raw = str(job["job_id"])
    id_ = _id(job, raw)
    values = {
        "JobID": id_, "JobIDRaw": raw, "State": _state(job), "Cluster": _text(job, "cluster"),
        "SLUID": _text(job, "sluid"), "User": _text(job, "user") or _text(job, "association", "user"),
        "Account": _text(job, "account"), "Partition": _text(job, "partition"), "QOS": _text(job, "qos"),
        "WCKey": _text(job, "wckey", "wckey"), "Submit": _time(job, "submission"), "Eligible": _time(job, "eligible"),
        "TimelimitRaw": _limit(_at(job, "time", "limit")), "Restarts": _count(job, "restart_cnt"),
        "ReqMem": _memory(_at(job, "tres", "requested")), "NodeList": _text(job, "nodes"),
        "NNodes": _count(job, "allocation_nodes"), "Reason": _text(job, "state", "reason"),
        "JobName": _text(job, "name"), "Comment": _text(job, "comment", "job"),
        "AdminComment": _text(job, "comment", "administrator"), "Extra": _text(job, "extra"),
        "SubmitLine": _text(job, "submit_line"), "WorkDir": _text(job, "working_directory"),
        "ConsumedEnergyRaw": _energy(_at(job, "tres", "allocated")), **_common(job),
    }  # fmt: skip
    yield [values.get(name, "") for name in COLUMNS]
    for step in _list(job.get("steps")):
        name = _step(_at(step, "step", "id"))
        used = _at(step, "tres", "requested")
        largest = _tres_of(_at(used, "max"), "mem")
        values = {
            "JobID": f"{id_}.{name}", "JobIDRaw": f"{raw}.{name}", "State": _state(step),
            "JobName": _text(step, "step", "name"), "NTasks": _count(step, "tasks", "count"),
            "NNodes": _count(step, "nodes", "count"), "NodeList": _text(step, "nodes", "range"),
            "TRESUsageInTot": _used(_at(used, "total")), "MaxRSS": _count(largest, "count"),
            "MaxRSSNode": _text(largest, "node"), "AveRSS": _count(_tres_of(_at(used, "average"), "mem"), "count"),
            "ConsumedEnergyRaw": _count(step, "statistics", "energy", "consumed"), **_common(step),
        }  # fmt: skip
        yield [values.get(name, "") for name in COLUMNS]


def _common(each: object) -> dict[str, str]:
    """Return the fields that a job and a step have alike."""
    return {
        "Start": _time(each, "start"), "End": _time(each, "end"), "ElapsedRaw": _count(each, "time", "elapsed"),
        "Suspended": _clock(_number(_at(each, "time", "suspended")) or 0), "ExitCode": _exit_code(each),
        "AllocTRES": _tres(_at(each, "tres", "allocated")), "TotalCPU": _seconds(each, "total"),
        "UserCPU": _seconds(each, "user"), "SystemCPU": _seconds(each, "system"),
    }  # fmt: skip


def _at(value: object, *path: str) -> object:
    """Return what is at a path of keys, None if anything of it is not there."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _number(value: object) -> int | None:
    """Return the number in a bare one or in {"set", "infinite", "number"}; None for none."""
    if isinstance(value, dict):
        value = value.get("number") if value.get("set") and not value.get("infinite") else None
    return value if isinstance(value, int) and 0 <= value < _NO_NUMBER - 1 else None


def _count(value: object, *path: str) -> str:
    found = _number(_at(value, *path))
    return "" if found is None else str(found)


def _text(value: object, *path: str) -> str:
    """Return a text, with bytes that are not UTF-8 as backslash, x and two digits."""
    found = _at(value, *path)
    if not isinstance(found, str):
        return ""
    return found.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _time(each: object, name: str) -> str:
    return str(_number(_at(each, "time", name)) or "Unknown")


def _clock(seconds: float) -> str:
    whole, fraction = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    text = f"{minutes // 60:02}:{minutes % 60:02}:{second:02}"
    return f"{text}.{fraction:03}" if fraction else text


def _seconds(each: object, name: str) -> str:
    """Return a time of use; of a job it is 0 where only its steps have one, which is unknown here."""
    whole, millionths = (_number(_at(each, "time", name, unit)) or 0 for unit in ("seconds", "microseconds"))
    return _clock(whole + millionths / 1e6) if whole or millionths or _at(each, "step") else ""


def _limit(value: object) -> str:
    return "UNLIMITED" if _at(value, "infinite") else _count(value)


def _id(job: Mapping[str, object], raw: str) -> str:
    """Return the id as sacct's text has it: 12, 12_3, 12_[4-9%2], 12+1."""
    leader, offset = _number(_at(job, "het", "job_id")), _number(_at(job, "het", "job_offset"))
    if leader:
        return f"{leader}+{offset or 0}"
    array, task = _number(_at(job, "array", "job_id")), _number(_at(job, "array", "task_id"))
    waiting = _text(job, "array", "task")
    if not array or (task is None and not waiting):
        return raw
    return f"{array}_{task}" if task is not None else f"{array}_[{waiting}]"


def _step(value: object) -> str:
    """Return the name of a step: "batch", 0, "12.0" (23.11) or {"step_id"} (23.02) say it."""
    value = value.get("step_id") if isinstance(value, dict) else value
    text = str(_number(value) if isinstance(value, dict) else value)
    return text.partition(".")[2] if "." in text else text


def _state(each: object) -> str:
    """Return the state, the last of several: CANCELLED by 0, which is root, where that is who cancelled it."""
    state = _at(each, "state")
    words = _at(state, "current") if isinstance(state, dict) else state
    word = words if isinstance(words, str) else next((str(word) for word in reversed(_list(words))), "UNKNOWN")
    return f"{word} by 0" if word == "CANCELLED" and _at(each, "kill_request_user") == "root" else word


def _exit_code(each: object) -> str:
    """Return the exit code and the signal. 22.05 has 0 for jobs that failed with another code: that is unknown."""
    code = _at(each, "exit_code")
    signal = _number(_at(code, "signal", "signal_id")) or _number(_at(code, "signal", "id")) or 0
    status = _number(_at(code, "return_code"))
    if not signal and (status is None or (not status and _state(each) == "FAILED")):
        return ""
    return f"{status or 0}:{signal}"


def _tres_of(tres: object, kind: str) -> object:
    return next((each for each in _list(tres) if _at(each, "type") == kind), None)


def _named(tres: object) -> Iterator[tuple[str, int]]:
    for each in _list(tres):
        count, kind, name = _number(_at(each, "count")), _text(each, "type"), _text(each, "name")
        if count is not None:
            yield (f"{kind}/{name}" if name else kind), count


def _tres(tres: object) -> str:
    """Return an allocation as AllocTRES has it; memory is in MiB."""
    pairs = [f"{name}={count}{'M' * (name == 'mem')}" for name, count in _named(tres) if name != "energy"]
    return ",".join(sorted(pairs))


def _used(tres: object) -> str:
    """Return use as TRESUsageInTot has it: CPU time is in milliseconds in JSON."""
    pairs: Sequence[tuple[str, int]] = list(_named(tres))
    return ",".join(f"{name}={_clock(count // 1000) if name == 'cpu' else count}" for name, count in pairs)


def _memory(tres: object) -> str:
    count = _count(_tres_of(tres, "mem"), "count")
    return f"{count}M" if count else ""


def _energy(tres: object) -> str:
    return _count(_tres_of(tres, "energy"), "count")
