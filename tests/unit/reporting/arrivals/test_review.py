"""A review names every file: logs with result and verdict, what is damaged, twice or no log."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import zipfile
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from call_counts import count_calls
from click.testing import CliRunner
from later_logs import bert, ssd
from run_dir import build_run
from v05_log import FAILED, lines, many, run, without, write_results

from trainbench.cli.main import cli
from trainbench.compliance.dialects.mllog import format_lines
from trainbench.compliance.tags import ncf as tags
from trainbench.errors import DataIntegrityError
from trainbench.reporting import records
from trainbench.reporting.arrivals.logs import as_log
from trainbench.reporting.arrivals.review import collect, judge
from trainbench.reporting.arrivals.unpack import arrived
from trainbench.reporting.arrivals.write import write_review
from trainbench.reporting.text import NA, of_target

SCHEMA = json.loads(Path(records.__file__).with_name("logs.schema.json").read_text())


def reviewed(*paths: Path, out: Path) -> dict:  # type: ignore[type-arg]
    files = write_review(paths, out)
    record = json.loads(files.results_json.read_text())
    jsonschema.validate(record, SCHEMA)
    assert record["verdict"]["exit_code"] == files.exit_code
    ET.parse(files.junit)
    return record


def log(seed: int = 1, **changes: object) -> str:
    return "".join(lines(run(seed=seed, start=1.5e9 + 1e4 * seed, **changes)))  # type: ignore[arg-type]


def test_every_log_is_listed_with_benchmark_result_and_verdict(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "good_1.txt").write_text(log(1))
    (folder / "good_2.log.gz").write_bytes(gzip.compress(log(2, hits=FAILED).encode()))
    broken = "".join(lines(without(tags.EVAL_SIZE)(run(seed=3))))
    (folder / "broken").write_text(broken)
    record = reviewed(folder, out=tmp_path / "out")
    found = {Path(one["file"]).name: one for one in record["logs"]}
    assert set(found) == {"good_1.txt", "good_2.log.gz", "broken"}
    assert found["good_1.txt"]["levels"] == {"2018-11": "2", "2019-04": "2"}
    assert found["broken"]["levels"] == {"2018-11": "1", "2019-04": "1"}
    assert (found["good_1.txt"]["converged"], found["good_2.log.gz"]["converged"]) == (True, False)
    assert found["good_1.txt"]["epoch_of_target"] == 6
    assert record["verdict"]["exit_code"] == 5
    for name in ("report.html", "report.md"):
        page = (tmp_path / "out" / name).read_text().replace("\\", "")
        assert "passes level 1 only, lacks eval_size" in page
        assert all(file in page for file in found)


def test_what_cannot_be_read_is_named_and_decides(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "result_0.txt").write_text(log(0))
    (folder / "result_1.txt.gz").write_bytes(gzip.compress(log(1).encode())[:-400])
    (folder / "result_2.txt").write_text("")
    (folder / "result_3.txt").write_bytes(b"\x00\xff" * 500)
    (folder / "result_4.txt").write_text(":::MLPv9 ncf is none\n")
    (folder / "README.md").write_text("Lines look like :::MLPv0.5.0 ncf 1.0 (a.py:1) run_start")
    (folder / "train.py").write_text("print(':::MLPv0.5.0 ncf 1 (a.py:1) run_start')")
    (folder / "away.txt").symlink_to(tmp_path / "nowhere")
    record = reviewed(folder, out=tmp_path / "out")
    unread = {Path(one["file"]).name: one["reason"] for one in record["unread"]}
    assert unread["result_1.txt.gz"].startswith("damaged gzip (")
    assert unread["result_2.txt"] == "empty"
    assert unread["result_3.txt"] == "no compliance line"
    assert unread["result_4.txt"].startswith("no line that can be read; the first: ':::MLPv9")
    assert unread["away.txt"] == "a link, not followed"
    assert sorted(Path(name).name for name in record["others"]) == ["README.md", "train.py"]
    assert record["verdict"]["exit_code"] == 3
    assert record["verdict"]["unread"] == 4
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(name in page for name in unread)
    suite = ET.parse(tmp_path / "out" / "junit.xml").getroot()
    failed = [
        case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None
    ]
    assert "logs/result_1.txt.gz is read" in failed
    assert not any("away.txt" in str(name) for name in failed)


def test_what_may_hold_logs_and_is_not_read_is_told_with_advice(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "result_0.txt").write_text(log(0))
    (folder / "more.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(90))
    (folder / "more.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(90))
    (folder / "marked.txt").write_bytes(log(1).encode("utf-16"))
    (folder / "unmarked.txt").write_bytes(log(1).encode("utf-16-be"))
    with zipfile.ZipFile(folder / "none.zip", "w"):
        pass
    record = reviewed(folder, out=tmp_path / "out")
    unread = {Path(one["file"]).name: one["reason"] for one in record["unread"]}
    assert unread == {
        "more.7z": "a 7z archive; unpack it, or pack it as zip or tar",
        "more.tar.zst": "packed with zstd; unpack it, or pack it with gzip",
        "marked.txt": "UTF-16; convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW",
        "unmarked.txt": "UTF-16BE; convert it: iconv -f UTF-16BE -t UTF-8 FILE > NEW",
        "none.zip": "a zip archive without files",
    }
    assert record["verdict"]["exit_code"] == 3


def test_what_macos_puts_beside_a_log_is_no_damaged_log(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "sent.zip", "w") as archive:
        archive.writestr("sent/result_0.txt", log(0))
        archive.writestr("__MACOSX/sent/._result_0.txt", b"\x00\x05\x16\x07" + bytes(90))
    record = reviewed(tmp_path / "sent.zip", out=tmp_path / "out")
    assert (record["unread"], record["verdict"]["exit_code"]) == ([], 0)
    assert record["others"] == ["sent.zip/__MACOSX/sent/._result_0.txt"]


def test_a_quality_that_is_no_number_is_none(tmp_path: Path) -> None:
    text = re.sub(r'"value": 0\.[0-9]+', '"value": NaN', log(0))
    assert "NaN" in text
    (tmp_path / "result_0.txt").write_text(text)
    record = reviewed(tmp_path / "result_0.txt", out=tmp_path / "out")
    assert (record["logs"][0]["best"], record["verdict"]["converged"]) == (None, 0)


def test_logs_that_no_rule_judged_are_not_called_compliant(tmp_path: Path) -> None:
    (tmp_path / "bert_0.log").write_text("\n".join(bert(1.62e9, 1_000.0)))
    record = reviewed(tmp_path / "bert_0.log", out=tmp_path / "out")
    headline = record["verdict"]["headline"]
    assert headline == "1 log read, none judged; rules of later rounds are not checked here"
    page = (tmp_path / "out" / "report.md").read_text()
    assert "logs of later rounds by what they claim" in page
    assert "whatever they claim" not in page
    (tmp_path / "result_0.txt").write_text(log(0))
    record = reviewed(tmp_path / "bert_0.log", tmp_path / "result_0.txt", out=tmp_path / "both")
    assert "2 logs read, all 1 of v0.5 compliant" in record["verdict"]["headline"]


def test_a_quality_just_below_the_target_does_not_look_as_if_it_reached_it() -> None:
    assert of_target(0.6349635, 0.635) == "0.63496"
    assert of_target(0.63499999999, 0.635) == "0.63499999999"
    assert (of_target(0.6341, 0.635), of_target(0.63504, 0.635)) == ("0.6341", "0.6350")
    assert (of_target(0.634999, None), of_target(None, 0.635)) == ("0.6350", NA)


def test_a_damaged_log_is_listed_and_does_not_count(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(log(1).encode()))
    packed[-8:-4] = b"\0\0\0\0"
    path = tmp_path / "result_0.txt.gz"
    path.write_bytes(packed)
    record = reviewed(path, out=tmp_path / "out")
    (found,) = record["logs"]
    assert found["damage"].startswith("damaged gzip (CRC")
    assert record["sets"][0]["score"]["converged"] == 0
    assert record["verdict"]["exit_code"] == 3


def test_logs_that_arrive_twice_are_named_and_counted_once(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    (folder / "copy").mkdir(parents=True)
    (folder / "result_0.txt").write_text(log(0))
    (folder / "result_1.txt").write_text(log(1))
    (folder / "copy" / "other_name.gz").write_bytes(gzip.compress(log(0).encode()))
    record = reviewed(folder, folder / "result_1.txt", out=tmp_path / "out")
    same = {one["file"]: one["same_as"] for one in record["duplicates"]}
    assert same == {
        "logs/copy/other_name.gz": "logs/result_0.txt",
        "result_1.txt": "logs/result_1.txt",
    }
    assert len(record["logs"]) == 2
    assert [one["score"]["runs"] for one in record["sets"]] == [2]


def test_the_same_input_gives_the_same_bytes_however_it_is_packed(tmp_path: Path) -> None:
    write_results(tmp_path / "set" / "results" / "dgx" / "ncf", many(4, converged=3))
    shutil.make_archive(str(tmp_path / "again"), "gztar", tmp_path / "set")
    write_review([tmp_path / "set"], tmp_path / "one")
    shutil.copytree(tmp_path / "set", tmp_path / "elsewhere" / "set")
    write_review([tmp_path / "elsewhere" / "set"], tmp_path / "two")
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name
    record = reviewed(tmp_path / "again.tar.gz", out=tmp_path / "three")
    first = json.loads((tmp_path / "one" / "results.json").read_text())
    assert record["sets"][0]["score"] == first["sets"][0]["score"]
    assert [one["sha256"] for one in record["logs"]] == [one["sha256"] for one in first["logs"]]


def test_a_report_inside_of_what_it_is_made_of_is_no_part_of_it(tmp_path: Path) -> None:
    write_results(tmp_path / "set", many(2, converged=2))
    first = reviewed(tmp_path / "set", out=tmp_path / "set" / "report")
    assert reviewed(tmp_path / "set", out=tmp_path / "set" / "report") == first


def test_prefixed_lines_are_read_as_the_later_checker_does(tmp_path: Path) -> None:
    path = tmp_path / "rank0.log"
    path.write_text("".join(f"0: INFO:mlperf: {line}" for line in lines(run())))
    record = reviewed(path, out=tmp_path / "out")
    (found,) = record["logs"]
    assert found["levels"] == {"2018-11": "0", "2019-04": "2"}
    assert found["converged"]
    assert found["facts"]["batch_size"]["value"] == 65_536


def test_logs_of_later_rounds_are_shown_and_not_judged_by_rules_of_v05(tmp_path: Path) -> None:
    logs = {"result_0.txt": bert(1.62e9, 1_000.0), "ssd.log": ssd(1.55e9, 500.0)}
    for name, texts in {**logs, "ncf.log": format_lines(run())}.items():
        (tmp_path / name).write_text("\n".join(["starting", *texts]))
    paths = [tmp_path / name for name in (*logs, "ncf.log")]
    record = reviewed(*paths, out=tmp_path / "out")
    found = {one["benchmark"]: one for one in record["logs"]}
    assert set(found) == {"bert", "ncf", "ssd"}
    assert found["ssd"]["time_s"] == pytest.approx(500.0)
    assert found["ncf"]["target"] == 0.635
    assert found["bert"]["time_s"] == pytest.approx(1_000.0)
    assert found["bert"]["converged"]
    assert found["bert"]["facts"]["batch_size"]["value"] == 448
    assert all(one["round"].startswith("later") and one["findings"] == [] for one in found.values())
    assert record["verdict"]["judged"] == 0
    assert record["verdict"]["exit_code"] == 0


def test_hostile_names_and_values_do_no_harm(tmp_path: Path) -> None:
    name = "result_<script>alert(1)\u202e[x](http:a)|`'=1+1_0.txt"
    (tmp_path / name).write_text(log(1).replace('opt_name: "adam"', 'opt_name: "<b>&\\u202e|"'))
    files = write_review([tmp_path / name], tmp_path / "out")
    page = files.html.read_text()
    assert "<script>" not in page
    assert "\u202e" not in page + files.markdown.read_text() + files.results_csv.read_text()
    ET.parse(files.junit)


def test_hostile_benchmarks_and_undecodable_names_do_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    hostile = [
        line.replace('"bert"', json.dumps('x" onload="alert(1)"><script>'))
        for line in bert(1.62e9, 1_000.0)
    ]
    (folder / "result_0.txt").write_text("\n".join(hostile))
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe_result_0.txt")).write_text(log(1))
    (folder / ("long" * 60)).write_text(log(2))
    files = write_review([folder], tmp_path / "out")
    page = files.html.read_text()
    assert "<script>" not in page
    assert 'onload="alert' not in page
    assert "\\udcff" in page
    ET.parse(files.junit)
    jsonschema.validate(json.loads(files.results_json.read_text()), SCHEMA)


def test_no_log_anywhere_is_an_error_that_says_what_was_wanted(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(DataIntegrityError, match="no log of MLPerf Training in 1 file"):
        collect([tmp_path])
    damaged = tmp_path / "broken.gz"
    damaged.write_bytes(gzip.compress(log().encode())[:15])
    assert judge(collect([damaged])).exit_code == 3


def test_sets_stand_side_by_side_with_values_and_units(tmp_path: Path) -> None:
    for system, epoch_s in (("slow", 40.0), ("fast", 10.0)):
        for index in range(3):
            folder = tmp_path / "results" / system / "ncf"
            folder.mkdir(parents=True, exist_ok=True)
            text = log(index, epoch_s=epoch_s).replace("65536", "98304")
            (folder / f"result_{index}.txt").write_text(f"system {system}\n{text}")
    record = reviewed(tmp_path, out=tmp_path / "out")
    (compared,) = record["comparison"]
    assert compared["sets"] == ["fast", "slow"]
    rows = {row["name"]: row for row in compared["rows"]}
    assert rows["train_epoch_s"]["unit"] == "s"
    assert rows["train_epoch_s"]["values"] == pytest.approx([10.0, 40.0])
    assert rows["batch_size"]["values"] == [98_304, 98_304]
    assert rows["seeds"]["values"] == [3, 3]
    assert rows["cache_drop"]["values"] == ["before run_start"] * 2
    assert all(one["convergence"]["p"] is not None for one in record["sets"])
    assert len(record["sets"][0]["published"]["rows"]) == 4


def test_forty_logs_take_at_most_four_times_as_much_work_as_ten(tmp_path: Path) -> None:
    """Calls are counted, not seconds, so that no other work on the machine decides."""
    write_results(tmp_path / "ten", many(10, converged=8))
    write_results(tmp_path / "forty", many(40, converged=30))
    _, few = count_calls(lambda: collect([tmp_path / "ten"]))
    _, most = count_calls(lambda: collect([tmp_path / "forty"]))
    assert most < 4 * few


def invoke(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["report", *map(str, arguments)], standalone_mode=False)
    code = done.return_value if done.exception is None else getattr(done.exception, "exit_code", 1)
    return int(code or 0), done.output


def test_the_command_takes_logs_archives_and_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path / "set", many(2, converged=1))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/ncf/result_0.txt", log(77))
    code, _ = invoke("set", "a.zip", "set/result_0.txt")
    assert code == 0
    record = json.loads((tmp_path / "report" / "results.json").read_text())
    assert [one["name"] for one in record["sets"]] == ["set", "x"]
    assert len(record["duplicates"]) == 1
    assert invoke("nothing-there")[0] == 2
    assert invoke("set", "--run", "set")[0] == 2


def test_the_folder_of_a_run_has_the_report_of_a_run(tmp_path: Path) -> None:
    one = build_run(tmp_path / "one", trials=1)
    shutil.copytree(one.root, tmp_path / "two")
    assert invoke("--run", one.root)[0] == invoke(tmp_path / "two")[0]
    for file in one.report.iterdir():
        assert file.read_bytes() == (tmp_path / "two" / "report" / file.name).read_bytes()


def test_the_public_logs_are_all_on_one_page(shared_dir: Path, tmp_path: Path) -> None:
    logs = shared_dir / "fixtures" / "v05_logs"
    record = reviewed(logs, out=tmp_path)
    wanted = sorted(f"v05_logs/{p.relative_to(logs)}" for p in logs.rglob("*") if p.is_file())
    assert sorted(one["file"] for one in record["logs"]) == wanted
    assert record["unread"] == record["duplicates"] == record["others"] == []
    page = (tmp_path / "report.html").read_text()
    assert all(name in page for name in wanted)
    sets = {one["name"]: one for one in record["sets"]}
    assert sets["dgx2_resnet"]["score"]["official"]
    assert sets["dgx2_resnet"]["score"]["mean_s"] == pytest.approx(4_436.3776, abs=1e-3)
    assert record["verdict"]["exit_code"] == 5
    assert not any(one["convergence"]["implausible"] for one in sets.values())
    (ncf,) = (one for one in record["comparison"] if one["benchmark"] == "ncf")
    rows = {row["name"]: dict(zip(ncf["sets"], row["values"], strict=True)) for row in ncf["rows"]}
    assert rows["batch_size"] == {
        "intel": 98_304,
        "nvidia_dgx1": 1_048_576,
        "reference_example": 2_048,
        "tf": 98_304,
    }


def test_the_verdicts_on_damaged_logs_are_those_of_both_checkers(shared_dir: Path) -> None:
    """348 mutated logs out of their archive."""
    folder = shared_dir / "fixtures" / "mutants"
    archive, expected = (
        folder / "mutants.tar.xz",
        json.loads((folder / "expected.json").read_text()),
    )
    levels = {
        item.name: log.levels
        for item in islice(arrived([archive]), 0, None, 12)
        if not isinstance(log := as_log(item), str) and log.levels
    }
    assert len(levels) > 20
    for name, by_checker in levels.items():
        verdicts = expected[name.split("/")[1]]
        for checker, passed in by_checker.items():
            wanted = "2" if verdicts[checker]["2"] is True else "1"
            wanted = wanted if verdicts[checker]["1"] is True else "0"
            assert passed == wanted, (name, checker, verdicts)
