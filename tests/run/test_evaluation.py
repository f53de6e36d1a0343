"""What a recipe's `evaluate:` section leaves in the record, the table, the report and the card."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from fallow.cli.main import main
from fallow.evaluate import decoders
from fallow.files import read_sealed, write_sealed
from fallow.metrics import score
from tests.run.test_damage import SHORTER
from tests.run.tiny import results, write_changed

JUDGES = Path(__file__).parents[1] / "evaluate" / "judges.py"

JUDGED = [
    *SHORTER,
    ("{max_new_tokens: 4, max_contexts: 6}", "{decoder: lora, num_beams: 3, max_new_tokens: 5, batch_size: 4}"),
    ("evaluate: {decoding", "evaluate: {profile: e2e, decoding"),
    ("valid_share: 0.2", 'valid: [{path: "TEXT", domain: a}, {path: "TEXT", domain: b, max_megabytes: 0.01}]'),
    ("checkpoint: {every: {steps: 5}}", "evaluate: {perplexity: {stride: 4, n_plus_one: 8}}"),
]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    return write_changed(folder, [(old, new.replace("TEXT", str(folder / "text.jsonl"))) for old, new in JUDGED])


@pytest.fixture(scope="module")
def output(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "judged"
    assert main(["run", str(recipe), "--output", str(folder)]) == 0
    return folder


def scores(output: Path, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / stage / "stage.json").read_text())["scores"]
    return found


def test_the_record_of_the_texts_says_how_they_were_made_and_scored(output: Path) -> None:
    found = scores(output, "tune")
    assert found["decoding"]["words"] == "lora, 3 beams, length penalty 1, at most 5 new tokens"
    assert found["metrics"]["profile"] == "e2e"
    lines = [json.loads(line) for line in (output / "tune" / "texts.jsonl").read_text().splitlines()]
    texts = [line["text"] for line in lines[1:]]
    assert len(texts) == found["num_contexts"] == found["num_contexts_total"] == 70
    assert lines[0]["decoder"] == "lora"
    references = [[f"{b} {a}"] for a, b in (line["context"].split(" and ") for line in lines[1:])]
    assert found["bleu"] == score("e2e", texts, references).scores["bleu"]


def test_the_record_of_text_has_bits_windows_domains_and_the_published_figure(output: Path, recipe: Path) -> None:
    found = scores(output, "pretrain")
    assert set(found["parts"]) == set(found["n_plus_one"]) == {"a", "b"}
    assert found["stride"] == 4
    size = sum(len(json.loads(line)["text"]) for line in (recipe.parent / "text.jsonl").read_text().splitlines())
    assert found["parts"]["a"]["num_bytes"] == size
    assert 0 < found["parts"]["b"]["num_bytes"] < size
    assert found["num_tokens"] == sum(part["num_tokens"] for part in found["parts"].values())
    assert found["bits_per_byte"] > 0
    for name, part in found["n_plus_one"].items():
        assert part["loss"] < found["parts"][name]["loss"] * 1.2


def test_the_table_has_the_scores_as_papers_print_them(output: Path) -> None:
    found = results(output)
    [row] = found["rows"]
    judged = scores(output, "tune")
    assert row["bleu"] == pytest.approx(100 * judged["bleu"])
    assert row["nist"] == judged["nist"]
    assert {"bleu", "nist"} <= {column["key"] for column in found["columns"]}
    domains = found["domains"]["rows"]
    assert [(line["stage"], line["domain"]) for line in domains] == [("sparse", "a"), ("sparse", "b")]
    assert domains[0]["n_plus_one"] == scores(output, "pretrain")["n_plus_one"]["a"]["perplexity"]


@pytest.mark.parametrize(
    "words",
    [
        "70 of 70 distinct validation contexts were decoded (lora, 3 beams, length penalty 1, at most 5 new tokens)",
        "scores by the profile e2e, e2e-metrics",
        "Scores between 0 and 1 are shown times 100.",
        "a new one every 4 tokens",
        "divided by N + 1",
        "Loss by domain",
    ],
)
def test_the_report_names_decoder_profile_and_variants(output: Path, words: str) -> None:
    assert words in (output / "report.html").read_text()


def test_the_card_carries_them(output: Path) -> None:
    card = (output / "tune" / "model" / "README.md").read_text()
    for line in ("| texts by | lora, 3 beams", "| scored by | e2e: e2e-metrics", "| bleu is | mteval-v13a"):
        assert line in card
    card = (output / "pretrain" / "model" / "README.md").read_text()
    for line in ("| loss by windows |", '| a, "N + 1" figure (validation) |', "| bits per byte (validation) |"):
        assert line in card


def test_an_interrupted_judgement_goes_on_from_its_texts(
    output: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = tmp_path / "run"
    shutil.copytree(output, again)
    texts = again / "tune" / "texts.jsonl"
    for path in (again / "tune" / "stage.json", texts):
        path.unlink()
    asked: list[int] = []
    lora = decoders.DECODERS["lora"]

    def search(model: Any, prompts: list[list[int]], *args: Any, **kwargs: Any) -> list[list[int]]:
        if len(asked) == 5:
            raise KeyboardInterrupt
        asked.append(len(prompts))
        return lora.search(model, prompts, *args, **kwargs)

    monkeypatch.setitem(decoders.DECODERS, "lora", decoders.Decoder(search, lora.stops, lora.text))
    assert main(["run", str(recipe), "--output", str(again)]) == 130
    assert texts.read_bytes().count(b"\n") == 1 + 20
    texts.write_bytes(texts.read_bytes()[:-9])
    asked[:] = [0] * 6
    assert main(["run", str(recipe), "--output", str(again)]) == 0
    assert sum(asked) == 70 - 16  # four whole batches were left
    assert scores(again, "tune") == scores(output, "tune")
    assert texts.read_bytes() == (output / "tune" / "texts.jsonl").read_bytes()


def test_texts_of_another_model_in_the_folder_are_not_taken(output: Path, recipe: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    shutil.copytree(output, again)
    (again / "tune" / "stage.json").unlink()
    texts = again / "tune" / "texts.jsonl"
    head, *lines = texts.read_text().splitlines()
    foreign = [json.dumps({**json.loads(head), "weights": "0" * 16})]
    foreign += [json.dumps({**json.loads(line), "text": "of another model"}) for line in lines]
    texts.write_text("\n".join(foreign) + "\n")
    assert main(["run", str(recipe), "--output", str(again)]) == 0
    assert scores(again, "tune") == scores(output, "tune")


def test_another_evaluate_section_judges_anew_and_trains_nothing(output: Path, recipe: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    shutil.copytree(output, again)
    kept = ["pretrain/stage.json", "pretrain/model/model.safetensors", "tune/model/model.safetensors", "tune/log.jsonl"]
    before = {name: ((again / name).read_bytes(), (again / name).stat().st_mtime_ns) for name in kept}
    command = ["run", str(recipe), "--output", str(again), "--stages.tune.evaluate.decoding.num_beams", "1"]
    assert main(command) == 0
    assert {name: ((again / name).read_bytes(), (again / name).stat().st_mtime_ns) for name in kept} == before
    first, second = (json.loads((folder / "tune" / "stage.json").read_text()) for folder in (output, again))
    assert second["scores"]["decoding"]["words"] == "lora, greedy, at most 5 new tokens"
    assert second["scores"]["loss"] == pytest.approx(first["scores"]["loss"], rel=1e-6)
    assert second["training"] == first["training"] and second["data"] == first["data"]
    assert "lora, greedy" in (again / "tune" / "model" / "README.md").read_text()
    assert "lora, greedy" in (again / "report.html").read_text()
    assert "num_beams: 1" in (again / "tune" / "recipe.yaml").read_text()
    finished = (again / "tune" / "stage.json").stat().st_mtime_ns
    assert main(command) == 0
    assert (again / "tune" / "stage.json").stat().st_mtime_ns == finished


def test_the_loss_of_a_part_is_that_of_sequences_evenly_spread(output: Path, recipe: Path, tmp_path: Path) -> None:
    shutil.copytree(output, tmp_path / "run")
    command = ["run", str(recipe), "--output", str(tmp_path / "run"), "--json"]
    assert main([*command, "--stages.all.evaluate.max_sequences", "30"]) == 0
    tune, before = scores(tmp_path / "run", "tune"), scores(output, "tune")
    assert (tune["num_sequences"], tune["num_sequences_total"]) == (32, 70)  # whole batches of 4
    assert tune["num_tokens"] < before["num_tokens"] and tune["bleu"] == before["bleu"]
    assert tune["loss"] == pytest.approx(before["loss"], abs=0.5) and tune["loss"] != before["loss"]
    notes = " ".join(results(tmp_path / "run")["notes"])
    assert "perplexity is per target token on 32 of 70 sequences, evenly spread." in notes
    text = scores(tmp_path / "run", "pretrain")
    assert f"the loss is that of {text['num_sequences']} of {text['num_sequences_total']:,} sequences" in notes
    assert main([*command, "--stages.all.evaluate.max_sequences", "-1"]) == 2


def test_a_record_that_does_not_say_how_it_was_judged_is_left_alone(output: Path, recipe: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    shutil.copytree(output, again)
    for stage in ("pretrain", "tune"):
        path = again / stage / "stage.json"
        record = read_sealed(path, "")
        del record["evaluate"]
        write_sealed(path, record)
    assert main(["run", str(recipe), "--output", str(again)]) == 0
    assert "evaluate" not in json.loads((again / "tune" / "stage.json").read_text())


def longer_wins(judge: str) -> str:
    return f"{sys.executable} {JUDGES} {judge}"


def test_a_judge_compares_the_texts_with_another_models(output: Path, recipe: Path, tmp_path: Path) -> None:
    again, others = tmp_path / "run", tmp_path / "others.jsonl"
    shutil.copytree(output, again)
    _, *lines = (output / "tune" / "texts.jsonl").read_text().splitlines()
    ours = [json.loads(line) for line in lines]
    theirs = [{"context": o["context"], "text": o["text"] + "!" if i % 5 else ""} for i, o in enumerate(ours)]
    others.write_text("".join(json.dumps(row) + "\n" for row in reversed(theirs)))
    at = "--stages.tune.evaluate.preference"
    command = ["run", str(recipe), "--output", str(again), f"{at}.against", str(others), f"{at}.judge"]
    assert main([*command, longer_wins("length")]) == 0
    found = scores(again, "tune")
    assert found["preference"]["num_judged"] == 70
    assert found["win_rate"] == found["preference"]["win_rate"] == pytest.approx(14 / 70)
    assert found["bleu"] == scores(output, "tune")["bleu"]
    assert f"win rate against {others}" in (again / "tune" / "model" / "README.md").read_text()
    [row] = results(again)["rows"]
    assert row["win_rate"] == found["win_rate"]
    assert main([*command, longer_wins("position")]) == 0  # another judge: judged anew
    assert scores(again, "tune")["win_rate"] == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["judge", "python j.py"], "against is missing"),
        (["max_pairs", "3"], "max_pairs has no effect without a judge"),
        (["judge", "j", "--stages.tune.evaluate.preference.against", "pretrain"], "contexts of"),
        (["judge", "j", "--stages.tune.evaluate.preference.against", "tune"], "against is tune, but"),
        (["judge", "j", "--stages.tune.evaluate.preference.against", "gone.jsonl"], "gone.jsonl does not exist"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused_before_anything_is_made(
    settings: list[str], message: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *rest = settings
    command = [
        "run",
        str(recipe),
        "--output",
        str(tmp_path / "run"),
        f"--stages.tune.evaluate.preference.{first}",
        *rest,
    ]
    assert main(command) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
