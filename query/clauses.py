"""All clauses of the language. A new one is a class in the file of its theme, and a line here."""

from __future__ import annotations

from tracectl.query.actor import By, NotBy
from tracectl.query.clause import Clause
from tracectl.query.place import On
from tracectl.query.previous import WithPrevious
from tracectl.query.relate import AfterRow, During, FollowedBy, NotAfterRow, NotDuring, NotFollowedBy
from tracectl.query.size import InState, Over, Under
from tracectl.query.stacks import WithStacks
from tracectl.query.subject import Of
from tracectl.query.when import After, Around, At, Before, Between, InLast
from tracectl.query.where import Where

CLAUSES: tuple[type[Clause], ...] = (
    Of, By, NotBy, On, After, Before, Between, Around, At, InLast, Over, Under, InState, Where,
    During, NotDuring, FollowedBy, NotFollowedBy, AfterRow, NotAfterRow,
    WithStacks, WithPrevious,
)  # fmt: skip
