"""Judges whose verdicts are known, as commands: `python judges.py NAME [NUMBER]`."""

import json
import sys
import time

JUDGES = {
    # the longer response wins, wherever it stands
    "length": lambda q: ("first", "second", "tie")[
        0 if len(q["first"]) > len(q["second"]) else 1 if len(q["first"]) < len(q["second"]) else 2
    ],
    "position": lambda q: "first",
    # as length, but where the lengths differ by one the first place wins
    "leaning": lambda q: "first" if len(q["first"]) + 1 >= len(q["second"]) else "second",
}


def main(name: str, number: int = 0) -> None:
    seen = 0
    held = []
    for line in sys.stdin:
        question = json.loads(line)
        seen += 1
        if name == "dies" and seen > number:
            sys.exit(3)
        if name == "silent":
            time.sleep(60)
        if name == "mumbles" and seen % 3 == 0:
            print("I like both of them.", flush=True)
            continue
        rule = JUDGES.get(name, JUDGES["length"])
        answer = {"id": question["id"], "winner": rule(question), "reason": "caf\u00e9"}
        if name == "backwards":  # answers several at once, the last one first
            held.append(answer)
            if len(held) == number:
                for kept in reversed(held):
                    print(json.dumps(kept), flush=True)
                held.clear()
            continue
        if name == "anonymous":
            del answer["id"]
        if name == "confused":
            answer["id"] = "something else"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *(int(word) for word in sys.argv[2:]))
