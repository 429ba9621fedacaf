"""The stages after ``|``: each makes new rows of the rows before it."""

from __future__ import annotations

from tracectl.query.plan import Plan
from tracectl.query.series import Histogram, Rate
from tracectl.query.stage import Stage, aggregate, any_group, between, free_name, opened, total_bound
from tracectl.query.values import token_in, tokens, trees
from tracectl.store.relations import Column, quote_name


class Count(Stage):
    """The number of rows, in all or by the values of columns, largest first."""

    rule = "count"
    grammar = """
count: "count" ("by" columns)?
"""
    examples = ("wakeups | count", "wakeups of tid 4449 | count by context, vec_name")

    def apply(self, plan: Plan) -> None:
        """Makes the column ``count``."""
        by = self.names(plan, trees(self.node)[0]) if self.node.children else []
        name = free_name("count", by)
        bounding = opened(plan, self.place)
        made = {name: (f"COUNT(*){bounding.only_matching}", Column(name, "int", "", "number of rows"))}
        if bounding.needed:
            limits = bounding.count(any_group=any_group(plan, by))
            made |= between(plan, made[name][1], limits, by)
        aggregate(plan, by, made)


def _known(column: Column, value: str, only: str) -> str:
    """An aggregate in SQL, null where a gap that nobody counted is part of it."""
    if column.name != "lost_count":
        return value
    return f"CASE WHEN COUNT(*){only} = COUNT(lost_count){only} THEN {value} END"


class Totals(Stage):
    """Sum, average (rounded to ns for times), least or largest value of columns, in all or by the values of others.

    The new column is called ``sum_dur`` and so on.
    """

    rule = "totals"
    grammar = """
totals: TOTAL columns ("by" columns)?
TOTAL.2: /(sum|avg|min|max)(?!\\w)/i
"""
    examples = (
        "runs | sum dur by comm",
        "delays | max dur",
        "softirqs | avg dur by name",
        "sleeps | sum blocked, delay by comm",
    )

    def apply(self, plan: Plan) -> None:
        """Makes a column per column named."""
        what = str(token_in(self.node)).lower()
        lists = trees(self.node)
        by = self.names(plan, lists[1]) if len(lists) > 1 else []
        made = {}
        bounding = opened(plan, self.place)
        for token in tokens(lists[0]):
            column = self.column(plan, token, numeric=True)
            name = free_name(f"{what}_{column.name}", by)
            made[name] = (self._expression(what, column, bounding.only_matching), self._result(what, name, column))
            if bounding.needed:
                moving = plan.evidence.rule.shifting
                plan.bounds[name] = "not bounded" if moving else total_bound(what, column, bounding)
        aggregate(plan, by, made)

    @staticmethod
    def _expression(what: str, column: Column, only: str) -> str:
        value = _known(column, f"{what.upper()}({quote_name(column.name)}){only}", only)
        if what == "sum" and column.type == "int":
            return f"CAST({value} AS BIGINT)"  # DuckDB sums into 128 bits, which others read as a decimal
        if what == "avg" and column.unit:
            return f"CAST(ROUND({value}) AS BIGINT)"  # an unrounded cast rounds in DuckDB and truncates elsewhere
        return value

    @staticmethod
    def _result(what: str, name: str, column: Column) -> Column:
        real = column.type == "real" or (what == "avg" and not column.unit)
        return Column(name, "real" if real else "int", column.unit, f"{what} of {column.name}")


class Percentiles(Stage):
    """Percentiles of a column, in all or by the values of others: values that occur, not interpolated.

    ``p50`` is the median, ``p99.9`` one in a thousand. The new column is called ``p50_dur`` and so on.
    """

    rule = "percentiles"
    grammar = """
percentiles: PERCENTILE ("," PERCENTILE)* NAME ("by" columns)?
PERCENTILE.2: /p(\\d\\d?(\\.\\d{1,6})?|100)(?![\\w.])/i
"""
    examples = ("delays | p50,p95,p99 dur by comm", "softirqs net_rx | p99.9 dur")

    def apply(self, plan: Plan) -> None:
        """Makes a column per percentile."""
        given = tokens(self.node)
        column = self.column(plan, given[-1], numeric=True)
        by = self.names(plan, trees(self.node)[0]) if trees(self.node) else []
        made = {}
        bounding = opened(plan, self.place)
        for token in given[:-1]:
            digits = str(token)[1:]
            name = free_name(f"p{digits.replace('.', '_')}_{column.name}", by)
            whole, _, part = digits.partition(".")
            fraction = f"0.{whole.zfill(2)}{part}" if whole != "100" else "1.0"
            value = f"PERCENTILE_DISC({fraction}) WITHIN GROUP (ORDER BY {quote_name(column.name)})"
            result = Column(name, column.type, column.unit, f"{token} of {column.name}")
            made[name] = (_known(column, value + bounding.only_matching, bounding.only_matching), result)
            if bounding.needed and column.unit == "ns":
                limits = bounding.percentile(fraction, quote_name(column.name), any_group=any_group(plan, by))
                made |= between(plan, result, limits, by)
            elif bounding.needed:
                plan.bounds[name] = "not bounded"
        aggregate(plan, by, made)


class Top(Stage):
    """The rows with the largest values of a column; without ``by``, of what was counted or summed up, or of ``dur``."""

    rule = "top"
    grammar = """
top: "top" UINT ("by" NAME)?
"""
    examples = ("delays | top 10 by tid", "wakeups | count by comm | top 3", "delays | top 10")

    def apply(self, plan: Plan) -> None:
        """Sorts and limits."""
        how_many, *by = tokens(self.node)
        _sort(plan, self.column(plan, by[0]) if by else self._usual(plan), descending=True)
        plan.select.limit = self.number(plan, how_many)

    def _usual(self, plan: Plan) -> Column:
        """The first column that an aggregate made, or how long rows last."""
        columns = plan.select.columns
        name = "dur" if plan.keys is None else next((name for name in columns if name not in plan.keys), "")
        if name not in columns:
            how_many = token_in(self.node)
            raise plan.error(
                "the largest of which column?", f"top {how_many} by one of: {', '.join(columns)}", self.place
            )
        plan.known(self.place, name)
        return columns[name]


class Sort(Stage):
    """Rows in the order of a column; with ``-`` before it, largest first. Nulls come last."""

    rule = "sort"
    grammar = """
sort: "sort" MINUS? NAME
MINUS: "-"
"""
    examples = ("delays | sort -dur", "wakeups | count by comm | sort comm")

    def apply(self, plan: Plan) -> None:
        """Sets the order."""
        given = tokens(self.node)
        _sort(plan, self.column(plan, given[-1]), descending=len(given) > 1)


def _sort(plan: Plan, column: Column, *, descending: bool) -> None:
    if plan.select.closed:
        plan.select = plan.select.around()
    name = quote_name(column.name)
    # What was the order before decides among equals, so that the answer is the same every time.
    before = [term for term in plan.select.order if term.split(" ")[0] != name]
    plan.select.order = [f"{name}{' DESC' if descending else ''} NULLS LAST", *before]


class Limit(Stage):
    """The first rows only."""

    rule = "limit"
    grammar = """
limit: "limit" UINT
"""
    examples = ("wakeups | limit 10",)

    def apply(self, plan: Plan) -> None:
        """Sets the limit; the smallest of several counts."""
        limit = self.number(plan, token_in(self.node))
        plan.select.limit = limit if plan.select.limit is None else min(limit, plan.select.limit)


class Pick(Stage):
    """Some of the columns, in this order."""

    rule = "pick"
    grammar = """
pick: "select" columns
"""
    examples = ("wakeups | select ts, comm, vec_name",)

    def apply(self, plan: Plan) -> None:
        """Sets the columns."""
        if plan.select.group is not None:
            plan.select = plan.select.around()
        plan.select.columns = {column.name: column for column in self.names(plan, trees(self.node)[0])}
        plan.narrowed = True


class Folded(Stage):
    """One line per distinct stack and the sum of its times, for flame graphs: the thread's name, then the functions
    from the outermost on, joined by ``;``. Of sleeps: then ``--`` and the waker's stack from the innermost function on,
    so that the waker stands on top of the sleeper.

    The value is the sum of ``blocked`` of sleeps, of ``dur`` of other nouns that last (ns), else the number of rows;
    after a stage that sums up, its first number. Printed without a table: ``stack value`` lines.
    """

    rule = "folded"
    grammar = """
folded: "folded"
"""
    examples = ("sleeps with stacks | folded", "sleeps with stacks | sum blocked by stack | folded")

    def apply(self, plan: Plan) -> None:
        """Makes the columns ``folded`` and a number."""
        before = dict(plan.select.columns)
        stacks = [name for name in ("stack", "waker_stack") if name in before]
        if not stacks:
            raise plan.error("there are no stacks to fold", 'a clause "with stacks" before it', self.place)
        value = self._value(plan)
        bounding = opened(plan, self.place)
        folded = Column("folded", "text", "", "frames joined by ;", any(before[name].derived for name in stacks))
        if value is None:
            made = {"count": (f"COUNT(*){bounding.only_matching}", Column("count", "int", "", "number of rows"))}
            words = "not bounded"
        else:
            name = value.name if plan.narrowed else f"sum_{value.name}"
            total = f"CAST(SUM({value.name}){bounding.only_matching} AS BIGINT)"
            made = {name: (total, Column(name, "int", value.unit, f"sum of {value.name}"))}
            words = total_bound("sum", value, bounding)
        if bounding.needed:
            plan.bounds[next(iter(made))] = words
        aggregate(plan, [folded], made)
        plan.select.expressions["folded"] = self._frames(before)

    @staticmethod
    def _value(plan: Plan) -> Column | None:
        """The column that is summed; None: rows are counted."""
        if plan.narrowed:
            shown = plan.select.columns.values()
            return next((c for c in shown if c.type == "int" and (c.unit == "ns" or c.name.startswith("count"))), None)
        names = ("blocked", "dur") if plan.noun.name == "sleeps" else ("dur",)
        return next((plan.all_columns[name] for name in names if plan.has(name)), None)

    @staticmethod
    def _frames(columns: dict[str, Column]) -> str:
        """SQL of one text per row."""

        def plain(name: str) -> str:
            return f"REPLACE({name}, ';', ':')"

        own = f"CASE WHEN {'waker_stack IS NULL' if 'waker_stack' in columns else 'TRUE'} THEN '[no stack]' END"
        stack = f"COALESCE(stack, {own})"
        waker = "ARRAY_TO_STRING(LIST_REVERSE(STRING_SPLIT(waker_stack, ';')), ';')"
        parts = [plain("comm")] if "comm" in columns else []
        if "stack" in columns:
            parts.append(stack)
            if "waker_stack" in columns:
                ends = f", {plain('waker_comm')}" if "waker_comm" in columns else ""
                parts.append(f"CASE WHEN waker_stack IS NOT NULL THEN CONCAT_WS(';', '--', {waker}{ends}) END")
        else:
            parts = [plain("waker_comm")] if "waker_comm" in columns else []
            parts.append("COALESCE(waker_stack, '[no stack]')")
        return f"CONCAT_WS(';', {', '.join(parts)})"


STAGES: tuple[type[Stage], ...] = (
    Count, Totals, Percentiles, Histogram, Rate, Top, Sort, Limit, Pick, Folded,
)  # fmt: skip
