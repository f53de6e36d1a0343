"""Texts with what trips tokenizers and searches: damage, odd tokens, other scripts, and nothing at all."""

import random

PLAIN = (
    "The Wrestlers is a family-friendly pub near Raja Indian Cuisine, with prices of less than £20.",
    "alan bean was born on march 15 , 1932 in wheeler , texas and he was a test pilot .",
    "It's a 5-star restaurant (not 3.5!), isn't it? They'd say so: \"yes\".",
    "The runway of Adolfo Suárez Madrid\u2013Barajas Airport is 4,349 m long and its name is 14R/32L.",
    "a a a b b a c a b c c a b a a b",
)
ODD = (
    *("don't", "cannot", "U.S.", "Mr.", "$5", "£20-25", "0", "0", "3.5", "1,000", "e-mail", "...", "(a)"),
    *("\u2014", "\u2013"),
    *(
        "&amp;",
        "&lt;",
        "&quot;",
        "%",
        "#",
        "é",
        "日本",
        "\U0001f642",
        "a\u00a0b",
        "\u2019s",
        "<skipped>",
        "-",
        "--",
        "1-2",
    ),
    *(
        "İ",
        "ß",
        "ΣΑΣ",
        "\u0301",
        "a-b",
        "-5",
        "+3",
        "*",
        "_",
        "``",
        "''",
        "|",
        "\\",
        "/",
        "YES",
        "?!",
        ".",
        ",",
        "&",
        "I'm",
    ),
)


def damaged(text: str, rng: random.Random) -> str:
    """Tokens left out, swapped, repeated, moved together, changed in case, or put in."""
    tokens = text.split()
    for _ in range(rng.choice((0, 1, 2, 4, 7))):
        if not tokens:
            break
        here, there = rng.randrange(len(tokens)), rng.randrange(len(tokens))
        match rng.randrange(7):
            case 0:
                del tokens[here]
            case 1:
                tokens[here], tokens[there] = tokens[there], tokens[here]
            case 2:
                tokens.insert(there, tokens[here])
            case 3:
                tokens.insert(here, rng.choice(ODD))
            case 4:
                moved = tokens[here : here + 5]
                del tokens[here : here + 5]
                tokens[there:there] = moved
            case 5:
                tokens[here] = rng.choice((tokens[here].upper(), tokens[here].title()))
            case 6:
                tokens[here] += rng.choice(".,;:!?'\"-)%")
    return " ".join(tokens)


def corpus(seed: int, count: int, *, empty: bool = True) -> tuple[list[str], list[list[str]]]:
    """Hypotheses, some of them empty or much too short or long, and one to four references each."""
    rng = random.Random(seed)
    hypotheses, references = [], []
    for _ in range(count):
        text = rng.choice(PLAIN)
        hypothesis = damaged(damaged(text, rng), rng)
        references.append([damaged(text, rng) or "x" for _ in range(rng.choice((1, 1, 2, 3, 4)))])
        kind = rng.randrange(12)
        if kind == 0 and empty:
            hypothesis = ""
        elif kind == 1:
            hypothesis = " ".join(hypothesis.split()[:2]) or "x"
        elif kind == 2:
            hypothesis = " ".join((hypothesis, *rng.sample(PLAIN, 3)))
        hypotheses.append(hypothesis if hypothesis or empty else "x")
    return hypotheses, references
