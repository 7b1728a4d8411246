"""Search by example: `engine.py` finds nearest rows, `index.py` does so in very large sets,
`query.py` says what is looked for."""

from tubelet.rows.search.engine import Found, Hit, Index, Searcher
from tubelet.rows.search.index import searcher_for
from tubelet.rows.search.query import Query, query_of

__all__ = ["Found", "Hit", "Index", "Query", "Searcher", "query_of", "searcher_for"]
