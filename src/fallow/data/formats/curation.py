"""The Curation Corpus (2020): summaries of news articles."""

from pathlib import Path

from fallow.data.formats.pair import Pair
from fallow.data.formats.table import read_table
from fallow.errors import UserError

_ARTICLE = ("article_content", "article", "content", "article_text", "text", "document", "body")
_SUMMARY = ("summary", "summaries", "abstract")


def read_curation(path: Path) -> list[Pair]:
    """One pair for each row of a CSV with an article and a summary; rows without an article are left out.

    The public release holds titles, summaries and addresses; the articles are collected with its own script, which
    adds the column article_content and leaves it empty where a page has gone.

    Raises:
        UserError: no column for the article or the summary; the message lists those that were found.
    """
    pairs = []
    for _, row in read_table(path):
        article = next((name for name in _ARTICLE if name in row), "")
        summary = next((name for name in _SUMMARY if name in row), "")
        if not article or not summary:
            lacks = f"the article (such as {_ARTICLE[0]})" if not article else f"the summary (such as {_SUMMARY[0]})"
            raise UserError(
                f"{path} has no column for {lacks}; its columns are: {', '.join(row)}. "
                "Collect the articles with the corpus's own script, or rename the column."
            )
        context, target = row[article].strip(), row[summary].strip()
        if context and target and not context.startswith("Exception"):
            pairs.append(Pair(context, target))
    return pairs
