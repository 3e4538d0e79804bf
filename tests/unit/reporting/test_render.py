from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from run_dir import START, SYSTEM_NAME, build_run, change, change_config, machine_records

from trainbench.ncf.benchmark import NCF
from trainbench.reporting.collect import collect
from trainbench.reporting.page.render import (
    html,
    markdown,
    markdown_cell,
    step_summary,
    write_report,
)
from trainbench.trials.paths import RunDir

HOSTILE = '</pre><script>alert("x")</script><img src=x onerror=alert(1)>'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of an untouched run."""
    return html(collect(build_run(tmp_path_factory.mktemp("page") / "run"), NCF))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def schema() -> dict[str, object]:
    text = resources.files("trainbench.reporting").joinpath("results.schema.json").read_text()
    loaded: dict[str, object] = json.loads(text)
    return loaded


class Page(HTMLParser):
    """The tags of a page, with attributes, and a check that they nest."""

    VOID = frozenset({"meta", "img", "link", "wbr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def test_a_copied_run_gives_the_same_bytes(run: RunDir, tmp_path: Path) -> None:
    first = write_report(run, tmp_path / "first", benchmark=NCF)
    copy = RunDir(Path(shutil.copytree(run.root, tmp_path / "elsewhere" / "copy")))
    second = write_report(copy, tmp_path / "second", benchmark=NCF)
    assert contents(first.html.parent) == contents(second.html.parent)
    assert all(str(tmp_path).encode() not in data for data in contents(tmp_path / "first").values())


def test_the_report_lies_in_the_run_unless_told_otherwise(run: RunDir) -> None:
    files = write_report(run, benchmark=NCF)
    assert files.html == run.report / "report.html"
    assert sorted(contents(run.report)) == [
        "epochs.csv",
        "junit.xml",
        "report.html",
        "report.md",
        "results.csv",
        "results.json",
    ]
    assert files.exit_code == 0


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    found = Page(page)
    assert found.open == []
    assert not found.all("script") + found.all("link") + found.all("img") + found.all("iframe")
    assert all((a.get("href") or "").startswith("#") for a in found.all("a") + found.all("use"))
    assert not [
        value for _, attrs in found.tags for name, value in attrs.items() if name[:2] == "on"
    ]
    assert "@import" not in page
    assert "url(http" not in page


def test_every_link_of_the_page_leads_somewhere(page: str) -> None:
    found = Page(page)
    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for a in found.all("a")} <= set(ids)


def test_the_page_can_be_read_by_ear(page: str) -> None:
    found = Page(page)
    assert found.all("html") == [{"lang": "en"}]
    drawings = [attrs for _, attrs in found.tags if attrs.get("role") == "img"]
    assert len(drawings) == len(found.all("figure")) == 7
    assert all(attrs["aria-label"] for attrs in drawings)
    for figure in re.findall(r"<figure.*?</figure>", page, flags=re.DOTALL):
        assert "<figcaption>" in figure
        assert "<table" in figure
    headings = [int(tag[1]) for tag, _ in found.tags if re.fullmatch(r"h\d", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(headings))


def test_the_verdict_comes_first_and_says_unverified(page: str, run: RunDir) -> None:
    for text in (page, markdown(collect(run, NCF))):
        top = text[text.index("NCF training report") :]
        assert "Target reached in 2 of 3 trials" in top[:4_000]
        assert "Unverified: result not verified by MLPerf." in top[:4_000]
        assert "trained on a CPU" in top[:4_000]


def test_hostile_text_is_shown_and_never_markup(run: RunDir) -> None:
    change(run.run_file, run_id=HOSTILE, preset=HOSTILE, command=[HOSTILE])
    change(run.trial(0).status, message=HOSTILE, state="failed", device=HOSTILE)
    change(run.trial(0).system, cpu={"model": HOSTILE}, packages={HOSTILE: HOSTILE})
    change(run.manifest, url=HOSTILE, **{HOSTILE: HOSTILE})
    log = run.results(SYSTEM_NAME) / "result_0.txt"
    log.write_text(log.read_text() + f':::MLPv0.5.0 ncf 1.0 (a:1) seed: "{HOSTILE}\n')
    text = html(collect(run, NCF))
    page = Page(text)
    assert not page.all("script")
    assert not page.all("img")
    assert "&lt;script&gt;" in text


def test_hostile_text_is_no_markdown_either(run: RunDir) -> None:
    change(run.trial(0).status, device="| a **b** [c](d) <e> `f`\n# g")
    assert "\\| a \\*\\*b\\*\\* \\[c\\](d) \\<e\\> \\`f\\` \\# g" in markdown(collect(run, NCF))
    assert markdown_cell("a\n|b") == "a \\|b"


STEERING = "\u202egnp.exe\u2066\u200e"


def hostile(run: RunDir, text: str) -> dict[str, str]:
    """The texts of a report whose every free field holds ``text``."""
    change(run.run_file, run_id=text, preset=text, command=["train", text])
    change(run.manifest, source=text, note=text)
    change(run.trial(0).status, state="failed", message=text, device=text)
    change(run.trial(1).cache_drop, dropped=False, reason=text)
    change(run.trial(0).system, kernel=text, os=text)
    shutil.rmtree(run.root / "results")
    folder = write_report(run, benchmark=NCF).html.parent
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_characters_that_turn_text_round_are_shown_as_their_numbers(run: RunDir) -> None:
    texts = hostile(run, STEERING)
    for name in ("report.html", "report.md", "results.csv", "junit.xml"):
        assert not set(STEERING) & set("\u202e\u2066\u200e") & set(texts[name]), name
        assert "u202egnp.exe" in texts[name], name
    assert json.loads(texts["results.json"])["run"]["run_id"] == STEERING


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("see https://evil.example/x", r"see https\://evil.example/x"),
        ("see www.evil.example", r"see www\.evil.example"),
        ("mailto:x ftp://y", r"mailto\:x ftp\://y"),
        ("$x^2$ and $$y$$", r"\$x^2\$ and \$\$y\$\$"),
        (
            "https://files.grouplens.org/datasets/ https://evil.example",
            r"https\://files.grouplens.org/datasets/ https\://evil.example",
        ),
    ],
)
def test_addresses_and_formulas_are_plain_text_in_markdown(
    run: RunDir, text: str, escaped: str
) -> None:
    page = hostile(run, text)["report.md"]
    assert escaped in page
    assert text not in page


def test_a_spreadsheet_runs_no_cell_of_the_report(run: RunDir) -> None:
    formula = "=cmd|' /C calc'!A0"
    texts = hostile(run, formula)
    rows = list(csv.DictReader(io.StringIO(texts["results.csv"])))
    assert {row["run_id"] for row in rows} == {f"'{formula}"}
    for name in ("results.csv", "epochs.csv"):
        for row in csv.reader(io.StringIO(texts[name])):
            for text in row:
                assert not text.startswith(tuple("=+@\t\r"))
                assert not text.startswith("-") or float(text) < 0


def test_a_password_in_an_earlier_record_is_in_no_file_of_the_report(run: RunDir) -> None:
    texts = hostile(run, "--mirror=https://alice:S3CRET@host/d?token=S3CRET")
    for name, text in texts.items():
        assert "S3CRET" not in text, name
    assert json.loads(texts["results.json"])["run"]["command"] == [
        "train",
        "--mirror=https://host/d",
    ]


def test_results_json_keeps_to_its_published_schema(run: RunDir, tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    other = build_run(tmp_path / "other", trials=1)
    files = write_report(run, compare=[other], benchmark=NCF)
    jsonschema.validate(json.loads(files.results_json.read_text()), schema())
    for path in [*run.root.glob("*.json"), *run.root.glob("trial_*/*.json*")]:
        path.unlink()
    files = write_report(run, benchmark=NCF)
    jsonschema.validate(json.loads(files.results_json.read_text()), schema())


def test_results_csv_has_one_row_per_trial_and_epochs_csv_one_per_epoch(run: RunDir) -> None:
    files = write_report(run, benchmark=NCF)
    with open(files.results_csv, newline="") as file:
        trials = list(csv.DictReader(file))
    with open(files.epochs_csv, newline="") as file:
        epochs = list(csv.DictReader(file))
    assert [row["state"] for row in trials] == ["converged", "converged", "not_converged"]
    assert float(trials[0]["time_to_train_s"]) == pytest.approx(292.65)
    assert trials[2]["time_to_train_s"] == ""
    assert [row["trial"] for row in epochs] == ["0"] * 6 + ["1"] * 6 + ["2"] * 5


@pytest.mark.parametrize("state", ["running", "failed", "interrupted"])
def test_a_trial_without_an_end_is_said_with_where_to_look(run: RunDir, state: str) -> None:
    change(run.trial(1).status, state=state, exit_code=1, message="the producer died")
    page = html(collect(run, NCF))
    assert "1 did not finish" in page
    assert "the producer died" in page
    assert "trial_1/stdout.log" in page


def test_who_took_the_machine_is_told_for_the_time_on_the_clock(run: RunDir) -> None:
    samples = machine_records(START, foreign=0.4873)
    samples += [{**sample, "unix_s": START - 60, "foreign_cpu": 1.0} for sample in samples[:9]]
    text = "".join(json.dumps(sample) + "\n" for sample in samples)
    run.trial(0).machine.write_text(text)
    run.trial(1).machine.unlink()
    text = markdown(collect(run, NCF))
    (row,) = re.findall(r"^\| 0 \| 29\d \| 2 \| .*$", text, re.MULTILINE)
    assert "| 93.0 % | 48.7 % | 0.1 % | 1.1 GiB | 2,500 MHz |" in row
    assert "trial_1/machine.jsonl: file not there" in text.replace("\\", "")
    for trial in run.trials:
        trial.machine.unlink(missing_ok=True)
    assert "n/a: no machine.jsonl tells it." in markdown(collect(run, NCF))


def test_a_finding_links_to_its_log_line_and_names_the_setting_behind_it(page: str) -> None:
    row = next(r for r in re.findall(r"<tr>.*?</tr>", page) if "value/<wbr>eval_target" in r)
    assert "target_hit_rate" in row
    (anchor,) = re.findall(r'href="#(finding-\d+)"', row)
    excerpt = page[page.index(f'id="{anchor}"') :]
    assert '<span class="line hit">' in excerpt[: excerpt.index("</pre>")]
    assert "eval_target" in excerpt[: excerpt.index("</pre>")]


def test_a_preset_with_the_references_own_settings_says_so(run: RunDir) -> None:
    change_config(run, dataset="ml-20m", target_hit_rate=0.635, max_epochs=20)
    assert "exactly the v0.5 reference" in html(collect(run, NCF))


def test_a_step_summary_is_cut_at_a_line_within_its_limit(run: RunDir) -> None:
    page = markdown(collect(run, NCF))
    assert step_summary(page) == page
    cut = step_summary(page, limit=2_000)
    assert len(cut.encode()) <= 2_000
    assert page.startswith(cut[: cut.index("\n\nThe rest is in report.md")])
    assert step_summary("é" * 500 + "\n" + "é" * 500, limit=600).endswith("1 MiB.\n")


def test_a_full_disk_leaves_no_half_report(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report(run, benchmark=NCF)
    before = contents(run.report)
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space")))
    with pytest.raises(OSError, match="No space"):
        write_report(run, benchmark=NCF)
    assert contents(run.report) == before


def test_each_trial_has_the_command_that_runs_it_again(run: RunDir, page: str) -> None:
    wanted = [
        f"python -m trainbench replay data/runs/20261118-093320-ml-1m --trial {index}"
        for index in range(3)
    ]
    assert "\n".join(wanted) in page
    assert "\n".join(f"    {line}" for line in wanted) in markdown(collect(run, NCF))


@pytest.mark.parametrize("name", ["a; rm -rf .", "a\nb", "$(id)", "../../etc", "-x"])
def test_a_run_id_that_a_shell_would_understand_is_not_in_the_command(
    run: RunDir, name: str
) -> None:
    change(run.run_file, run_id=name)
    assert "trainbench replay DIR --trial 0\n" in markdown(collect(run, NCF))
