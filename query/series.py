"""Stages that put rows into buckets: ``histogram`` by a value, ``rate`` by time."""

from __future__ import annotations

from tracectl.query.bounds import Bounding
from tracectl.query.plan import Plan
from tracectl.query.select import Select
from tracectl.query.stage import Stage, aggregate, any_group, between, opened
from tracectl.query.values import OutOfRange, Place, duration_of, place_of, token_in, tokens, trees
from tracectl.store.relations import Column, quote_name

_LARGEST = "9223372036854775807"
MOST_BUCKETS = 100_000


class Histogram(Stage):
    """How many rows have a value of which size: buckets of powers of two, ``bucket_from`` included, ``bucket_to`` not.

    On a terminal with bars. Buckets without rows are left out. Rows whose value is not known have a bucket without
    bounds; negative values have buckets of their own.
    """

    rule = "histogram"
    grammar = """
histogram: "histogram" NAME ("by" columns)?
"""
    examples = ("delays | histogram dur", "softirqs | histogram dur by name")

    def apply(self, plan: Plan) -> None:
        """Makes the columns ``bucket_from``, ``bucket_to`` and ``count``."""
        token = token_in(self.node)
        column = self.column(plan, token, numeric=True)
        if column.type != "int" or column.unit == "clock":
            remedy = "a duration or a whole number; for moments: rate 1s"
            raise plan.error(f"{column.name} has no sizes", remedy, place_of(token))
        by = self.names(plan, trees(self.node)[0]) if trees(self.node) else []
        bounding = opened(plan, self.place)
        unit = column.unit
        low, high = (
            Column(name, "int", unit, f"{column.name}: {words}", column.derived)
            for name, words in (("bucket_from", "at least"), ("bucket_to", "less than"))
        )
        taken = next((c for c in by if c.name in ("bucket_from", "bucket_to", "count")), None)
        if taken is not None:
            raise plan.error(f"{taken.name} is a column that the histogram makes", "another column", self.place)
        groups = [*by, low, high]
        made = _count(plan, bounding, groups)
        aggregate(plan, groups, made)
        plan.select.expressions |= _log2_bucket(quote_name(column.name))
        plan.select.order = [f"{quote_name(c.name)} NULLS LAST" for c in (*by, low)]
        plan.final = "histogram"


def _count(plan: Plan, bounding: Bounding, groups: list[Column]) -> dict[str, tuple[str, Column]]:
    """The column ``count`` and, where rows may be missing, its bounds."""
    count = Column("count", "int", "", "number of rows")
    made = {"count": (f"COUNT(*){bounding.only_matching}", count)}
    if bounding.needed:
        made |= between(plan, count, bounding.count(any_group=any_group(plan, groups)), groups)
    return made


def _log2_bucket(value: str) -> dict[str, str]:
    """SQL of both ends of a value's bucket, in whole numbers: a logarithm would round."""
    size = f"LENGTH(BIN(ABS(GREATEST({value}, -{_LARGEST}))))"  # binary digits
    low = f"(CAST(1 AS BIGINT) << ({size} - 1))"
    high = f"CASE WHEN {size} > 62 THEN {_LARGEST} ELSE CAST(1 AS BIGINT) << {size} END"
    lowest = f"CASE WHEN {size} > 62 THEN -{_LARGEST} - 1 ELSE 1 - (CAST(1 AS BIGINT) << {size}) END"
    return {
        "bucket_from": f"CASE WHEN {value} > 0 THEN {low} WHEN {value} = 0 THEN 0 WHEN {value} < 0 THEN {lowest} END",
        "bucket_to": f"CASE WHEN {value} > 0 THEN {high} WHEN {value} = 0 THEN 1 WHEN {value} < 0 THEN 1 - {low} END",
    }


class Rate(Stage):
    """How many rows begin in each so long part of the time asked for, and how many that is per second.

    Every part is a row, also one in which nothing begins. The first begins with the recording; of parts that the
    recording covers only in part, ``per_second`` is by what it covers. Where events were lost, ``gaps`` says in which
    parts, and the count is bounded there.
    """

    rule = "rate"
    grammar = """
rate: "rate" DURATION ("by" columns)?
"""
    examples = ("wakeups | rate 1s", "softirqs | rate 100ms by name")

    def apply(self, plan: Plan) -> None:
        """Makes the columns ``ts``, ``count`` and ``per_second``."""
        if plan.narrowed or plan.select.closed or not plan.has("ts"):
            raise plan.error("rate is of the noun's own rows", "put it first behind the clauses", self.place)
        if plan.all_columns["ts"].derived:
            raise plan.error(f"the rows of {plan.noun.name} are at no moment", "count them", self.place)
        by = [c for c in (self.names(plan, trees(self.node)[0]) if trees(self.node) else []) if c.name != "ts"]
        step, first, last = self._times(plan)
        bounding = opened(plan, self.place)
        ts = Column("ts", "int", "clock", "begin of the part")
        rule = plan.evidence.rule
        # Which part a missing row would be in is known where it can only be missing with its own event.
        apart = (
            not plan.several
            and not plan.loss.exact
            and not plan.loss.filter
            and not rule.vanishes
            and not plan.certainty_asked
        )
        moving = any_group(plan, by)
        local = apart and rule.interval != "all" and not moving
        groups = [ts, *by]
        made = _count(plan, Bounding(bounding.loss, bounding.tri, bounding.pairs) if local else bounding, groups)
        if local:
            plan.bound_columns |= {"count_min", "count_max"}
            least, _ = Bounding(bounding.loss, bounding.tri, bounding.pairs).count(any_group=False)
            made["count_min"] = (least, Column("count_min", "int", "", "min of count"))
            made["count_max"] = ("COUNT(*)", Column("count_max", "int", "", "max of count"))
        aggregate(plan, groups, made)
        plan.select.expressions["ts"] = f"ts - (ts - {plan.start}) % {step}"
        counted = plan.select.around()
        none = "NULL" if moving else str(plan.loss.at_most)  # rows that may be in a group where none was counted
        plan.select = _Series(plan, by, (step, first, last), local=local, none=none).around(counted)

    def _times(self, plan: Plan) -> tuple[str, str, str]:
        """Placeholders of the length of a part, the first moment asked for and the last."""
        token = tokens(self.node)[0]
        try:
            step = duration_of(token)
        except OutOfRange:
            raise plan.error("this time is too long", "at most 292 years", place_of(token)) from None
        if step == 0:
            raise plan.error("no time at all", "as in: rate 1s", place_of(token))
        start, end = plan.scene.start_ts, plan.scene.end_ts
        first = min(max(start, plan.first_ts or start), end)
        last = max(min(end, end if plan.last_ts is None else plan.last_ts), first)
        self._check_number(plan, (last - start) // step - (first - start) // step + 1, place_of(token))
        return plan.parameter(step), plan.parameter(first), plan.parameter(last)

    @staticmethod
    def _check_number(plan: Plan, parts: int, place: Place) -> None:
        if parts > MOST_BUCKETS:
            remedy = f"at most {MOST_BUCKETS}: a longer time, or: between … and …"
            raise plan.error(f"that would be {parts} rows", remedy, place)


class _Series:
    """The SELECT that puts every part of the time beside what was counted in it."""

    def __init__(self, plan: Plan, by: list[Column], times: tuple[str, str, str], *, local: bool, none: str) -> None:
        self.plan, self.by, self.local, self.none = plan, by, local, none
        self.step, self.first, self.last = times
        self.bounded = [name for name in ("count_min", "count_max") if name in plan.select.columns]

    def around(self, counted: Select) -> Select:
        """The rows of the stage."""
        plan, keys = self.plan, [quote_name(column.name) for column in self.by]
        names = ", ".join(f"named.{key}" for key in keys)
        start = f"{self.first} - ({self.first} - {plan.start}) % {self.step}"
        parts = f"SELECT UNNEST(GENERATE_SERIES({start}, {self.last}, {self.step})) AS ts"
        groups = f" CROSS JOIN (SELECT DISTINCT {', '.join(keys)} FROM counted) AS named" if keys else ""
        equal = "".join(f" AND counted.{key} IS NOT DISTINCT FROM named.{key}" for key in keys)
        columns, joins = self._columns()
        shown = ", ".join(f"{sql} AS {name}" for name, sql in columns.items())
        source = (
            f"(\n  WITH counted AS (SELECT * FROM {counted.source}),\n  parts AS ({parts}){self._gaps()}\n"
            f"  SELECT parts.ts, {f'{names}, ' if names else ''}{shown}\n  FROM parts{groups}\n"
            f"  LEFT JOIN counted ON counted.ts = parts.ts{equal}{joins}\n) AS rated"
        )
        known = {"ts": plan.select.columns["ts"]} | {column.name: column for column in self.by}
        docs = {"per_second": "of the time recorded", "gaps": "gaps that touch it", "count": "number of rows"}
        known |= {
            name: Column(name, "real" if name == "per_second" else "int", "", docs.get(name, f"{name[6:]} of count"))
            for name in columns
        }
        return Select(source, known, order=["ts", *keys])

    def _columns(self) -> tuple[dict[str, str], str]:
        plan = self.plan
        # What the recording, or the time asked for, covers of the part.
        until = f"LEAST(parts.ts + {self.step}, {self.last} + 1)"
        covered = f"GREATEST({until} - GREATEST(parts.ts, {self.first}), 1)"
        count = "COALESCE(counted.count, 0)"
        columns = {"count": count, "per_second": f"{count} * 1e9 / {covered}"}
        if not self.local:
            none = {"count_min": "0", "count_max": self.none}
            columns |= {name: f"COALESCE(counted.{name}, {none[name]})" for name in self.bounded}
            return columns, ""
        most = f"COALESCE(counted.count_max, 0) + lost_in.lost_count * {plan.evidence.rule.rows_per_event}"
        columns |= {"count_min": "COALESCE(counted.count_min, 0)", "count_max": f"CAST({most} AS BIGINT)"}
        columns["gaps"] = "lost_in.gaps"
        plan.bound_columns.add("gaps")
        plan.bounds["count"] = "between count_min and count_max"
        return columns, "\n  JOIN lost_in ON lost_in.ts = parts.ts"

    def _gaps(self) -> str:
        """What was lost in each part: gaps, and events in them; null where nobody counted those."""
        if not self.local:
            return ""
        plan, evidence = self.plan, self.plan.evidence
        plan.relations += ["lost"] * ("lost" not in plan.relations)
        tests = [f"(stream IS NULL OR stream IN ({', '.join(map(plan.parameter, sorted(evidence.streams)))}))"]
        if evidence.cpus is not None:
            cpus = ", ".join(map(plan.parameter, sorted(evidence.cpus))) or "NULL"
            tests.append(f"(cpu IS NULL OR cpu IN ({cpus}))")
        return (
            ",\n  lost_in AS (\n    SELECT parts.ts, COUNT(gap.ts) AS gaps,\n"
            "      CASE WHEN COUNT(gap.ts) = COUNT(gap.lost_count) THEN COALESCE(SUM(gap.lost_count), 0) END\n"
            "        AS lost_count\n"
            f"    FROM parts LEFT JOIN (\n      SELECT COALESCE(from_ts, 0) AS from_ts, ts, lost_count FROM lost\n"
            f"      WHERE {' AND '.join(tests)}\n"
            f"    ) AS gap ON gap.from_ts < parts.ts + {self.step} AND gap.ts >= parts.ts\n    GROUP BY parts.ts\n  )"
        )
