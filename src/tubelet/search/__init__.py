"""Search by example: `engine.py` finds nearest rows, `query.py` says what is looked for."""

from tubelet.search.engine import Found, Hit, Index, Searcher
from tubelet.search.query import Query, query_of

__all__ = ["Found", "Hit", "Index", "Query", "Searcher", "query_of"]
