"""What people bring from other languages and from speech, and what this one says instead."""

from __future__ import annotations

import re

from tracectl.query.grammar import keyword_terminal
from tracectl.query.nouns import softirq_vector

_STAGE = 'what is made of the rows stands behind "|", as in: '
_OF = "threads are named by of, as in: of "
# Where a word stands, by a keyword that could stand there -> (pattern of what was typed, whole; remedy).
_INSTEAD: dict[str, tuple[tuple[str, str], ...]] = {
    "of": (
        (r"(tid|pid|comm|cgroup|container)", _OF + "{0} …"),
        (r">=?|longer|above|more|than", "over 10ms"),
        (r"<=?|shorter|below|less", "under 50us"),
        (r"from|since", "after 20s, or: between 20s and 21s"),
        (r"until|till|to", "before 21s, or: between 20s and 21s"),
        (r"and|&&", "clauses follow each other without it; conditions on columns: where … and …"),
        (r"p\d+|count|top|sum|avg|min|max|histogram|rate|sort|limit|select|folded", _STAGE + "| {0} …"),
        (r"group|order|head|tail", _STAGE + "| count by comm, | sort -dur, | limit 10"),
        (r";", "a question ends without it"),
        (r"--.*", "options of the command stand outside the question's quotes"),
    ),
    "tid": (
        (r"threads?|tids", "tid, as in: of tid 4449"),
        (r"process(es)?|pids|tgid", "pid, as in: of pid 4182"),
        (r"(task|name|command|program)s?", "comm, as in: of comm nginx"),
    ),
    "softirq": (
        (r"(interrupt|hardirq)s?", "irq, as in: by irq, by irq 11"),
        (r"(thread|process)(es)?|pid", "tid or comm, as in: by tid 10, by comm kubelet"),
        (r"swapper.*", "idle, as in: by idle"),
    ),
    "cpu": ((r"(core|processor)s?", "cpu, as in: on cpu 0-3"),),
    "top": (
        (r"head|first|take", "limit 10"),
        (r"tail|last", "sort -ts, then: | limit 10"),
        (r"group|distinct|uniq|unique", "count by comm, sum dur by comm, p99 dur by comm"),
        (r"order", "sort dur, or the largest first: sort -dur"),
        (r"percentiles?|quantiles?|median", "p50 dur, p99 dur"),
        (r"mean|average", "avg dur"),
        (r"where|filter", "conditions are clauses and stand before the first |"),
    ),
}


def said_instead(found: str, accepted: set[str], before: str) -> str:
    """What would be said here for what was typed; empty: nobody knows.

    Args:
        accepted: the terminals that could stand there.
        before: the question up to there.
    """
    word, earlier = found.lower(), before.lower().split()
    again = re.fullmatch(r",|tid|pid|comm|cgroup|container", word) and {"of", "where"} & set(earlier) == {"of"}
    if again and keyword_terminal("or") in accepted:
        return "or, as in: of pid 1 or pid 2"
    for keyword, pairs in _INSTEAD.items():
        if keyword_terminal(keyword) in accepted:
            for pattern, remedy in pairs:
                if re.fullmatch(pattern, word):
                    return remedy.format(word)
    return ""


def name_instead(found: str, accepted: set[str], before: str) -> str:
    """The same for any name or number, by the word that it stands behind."""
    last = "".join(before.lower().split()[-1:])
    of = last == "of" and keyword_terminal("tid") in accepted
    by = last == "by" and keyword_terminal("softirq") in accepted
    number, name = found.isdecimal(), re.fullmatch(r"[\w:/*?.-]+|\".*\"", found)
    between = re.fullmatch(r"(\d+)\.\.(\d+)", found)
    offers = (
        (of and number, f"of tid {found}, of pid {found}"),
        (of and name, f"of comm {found}"),
        (by and softirq_vector(found.lower()) is not None, f"by softirq {found.lower()}"),
        (by and number, f"by tid {found}"),
        (by and name, f"by comm {found}"),
        (last == "count" and keyword_terminal("by") in accepted and name, f"count by {found}"),
        (found.lower() in ("desc", "asc") and "$END" in accepted, "sort -dur: the largest first"),
        (last == "cpu" and between, f"cpu {between[1]}-{between[2]}" if between else ""),
        (
            "DURATION" in accepted and re.fullmatch(r"\d+(\.\d+)?[a-z]*", found),
            "a number and ns, us, ms, s, m or h: 1.5ms",
        ),
    )
    return next((remedy for holds, remedy in offers if holds), "")


def noun_instead(found: str) -> str:
    """What to say of a question that begins with a stage or with a word of SQL."""
    if re.fullmatch(r"select|from|show|count|top|sum|avg|min|max|histogram|rate|sort|limit|p\d+", found.lower()):
        return "the noun comes first, what is made of its rows behind |, as in: delays | p99 dur by comm"
    return ""
