"""Loggers: every point once, in order, whatever happened to the run or to the service."""

from __future__ import annotations

import json
import logging
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from faceprint.config import Config, Log
from faceprint.errors import UserError
from faceprint.training.logging import LOGGERS, RunInfo, open_loggers
from faceprint.training.logging.background import Background

Tiny = Callable[..., Config]
Trained = Callable[[Config], Any]
Records = list[dict[str, Any]]


def train_record(step: int) -> dict[str, Any]:
    return {
        "kind": "train",
        "step": step,
        "epoch": step / 10,
        "loss": 40.0 - step,
        "learning_rate": 0.1,
        "train_accuracy": step / 100,
        "samples_per_second": 2100.0,
    }


def evaluation_record(step: int, accuracy: float) -> dict[str, Any]:
    return {
        "kind": "evaluation",
        "step": step,
        "epoch": step / 10,
        "protocol": "bin",
        "accuracy": accuracy,
        "accuracy_std": 0.003196,
    }


def part(folder: Path, log: Mapping[str, Any], records: Records, first_step: int = 0) -> None:
    """One part of a run: opens its loggers, writes `records`, closes."""
    folder.mkdir(exist_ok=True)
    info = RunInfo(folder, {"seed": 3, "network": {"name": "mbf"}}, Log(**log), total_steps=100, first_step=first_step)
    loggers = open_loggers(info)
    for record in records:
        for logger in loggers:
            logger.write(record)
    for logger in loggers:
        logger.close()


def interrupted(folder: Path, log: Mapping[str, Any]) -> None:
    """A run that is killed after step 30 and goes on from step 20, as `forget_after` leaves its metrics."""
    part(folder, log, [train_record(10), train_record(20), evaluation_record(20, 0.9955), train_record(30)])
    metrics = folder / "metrics.jsonl"
    metrics.write_text("".join(line + "\n" for line in metrics.read_text().splitlines()[:3]))
    owed = {**evaluation_record(20, 0.99), "protocol": "pairs"}  # the first part was stopped before it
    part(folder, log, [owed, train_record(30), evaluation_record(30, 0.99), train_record(40)], first_step=20)


LOSSES = [(10, 30.0), (20, 20.0), (30, 10.0), (40, 0.0)]
ACCURACIES = [(20, 0.9955), (30, 0.99)]


def test_configuration_and_table_name_the_same_loggers() -> None:
    names = get_args(get_args(Log.model_fields["loggers"].annotation)[0])
    assert list(names) == list(LOGGERS)


def test_training_log_has_the_lines_of_arcface_torch_once(tmp_path: Path) -> None:
    interrupted(tmp_path / "run", {})
    text = (tmp_path / "run" / "training.log").read_text()
    line = re.compile(
        r"Training: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}-Speed (?P<speed>\d+\.\d\d) samples/sec"
        r"   Loss (?P<loss>\d+\.\d{4})   LearningRate (?P<lr>\d\.\d{6})   Epoch: (?P<epoch>\d+)"
        r"   Global Step: (?P<step>\d+)   Required: \d+ hours"
    )
    found = [(int(match["step"]), float(match["loss"])) for match in line.finditer(text)]
    assert found == LOSSES
    assert [int(match["epoch"]) for match in line.finditer(text)] == [1, 2, 3, 4]
    assert re.findall(r"\[bin\]\[(\d+)\]Accuracy-Flip: (\d\.\d{5}\+-\d\.\d{5})", text) == [
        ("20", "0.99550+-0.00320"),
        ("30", "0.99000+-0.00320"),
    ]
    assert re.findall(r"\[bin\]\[(\d+)\]Accuracy-Highest: (\d\.\d{5})", text) == [("20", "0.99550"), ("30", "0.99550")]
    assert text.count("[pairs][20]Accuracy-Flip: 0.99000") == 1
    assert len(text.splitlines()) == 10


def test_training_log_names_the_loss_scale_of_fp16(tmp_path: Path) -> None:
    part(tmp_path / "run", {}, [{**train_record(100), "loss_scale": 65536.0}])
    assert (
        "   Global Step: 100   Fp16 Grad Scale: 65536   Required: 0 hours"
        in (tmp_path / "run" / "training.log").read_text()
    )


def test_tensorboard(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    interrupted(tmp_path / "run", {"loggers": ["tensorboard"]})
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == LOSSES
    assert [event.step for event in events.Scalars("evaluation/bin/accuracy")] == [20, 30]
    assert [event.step for event in events.Scalars("evaluation/pairs/accuracy")] == [20]
    assert b"name: mbf" in events.Tensors("configuration/text_summary")[0].tensor_proto.string_val[0]


def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    interrupted(tmp_path / "run", {"loggers": ["wandb"]})
    folders = sorted((tmp_path / "run" / "wandb").glob("offline-run-*"), key=lambda path: path.stat().st_mtime)
    identifier = (tmp_path / "run" / "wandb.id").read_text().strip()
    assert len(folders) == 2
    assert all(folder.name.endswith(f"-{identifier}") for folder in folders)
    log = folders[-1] / f"run-{identifier}.wandb"
    for _ in range(300):  # W&B's own process writes the file a little after finish()
        if log.stat().st_size > 7:
            break
        time.sleep(0.1)
    config, history = wandb_contents(log)
    assert config["network"] == {"name": "mbf"}
    for name, points in (("train/loss", LOSSES), ("evaluation/bin/accuracy", ACCURACIES)):
        step = name.rsplit("/", 1)[0] + "/step"
        assert [(row[step], row[name]) for row in history if name in row] == points
    assert len([row for row in history if "evaluation/pairs/accuracy" in row]) == 1


def wandb_contents(path: Path) -> tuple[dict[str, Any], Records]:
    """(configuration, rows) of a W&B transaction log."""
    from wandb.proto import wandb_internal_pb2

    config: dict[str, Any] = {}
    history: Records = []
    for data in leveldb_log(path.read_bytes()[7:]):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "run":
            config.update({item.key: json.loads(item.value_json) for item in record.run.config.update})
        if record.WhichOneof("record_type") == "history":
            history.append(
                {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            )
    return config, history


def leveldb_log(data: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log, of which W&B's first block begins 7 bytes in: (crc, length, type), then the bytes."""
    place, whole = 0, b""
    while place + 7 <= len(data):
        left = 32768 - (place + 7) % 32768
        if left < 7:  # the rest of a block that is too short for a header
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # full or last
            yield whole
            whole = b""


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # much quicker to make than a database
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    interrupted(tmp_path / "run", {"loggers": ["mlflow"], "project": "faces"})
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "store").as_uri())
    experiment = client.get_experiment_by_name("faces")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == (tmp_path / "run" / "mlflow.id").read_text().strip()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    assert run.data.params == {"seed": "3", "network.name": "mbf"}
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history] == LOSSES
    history = client.get_metric_history(run.info.run_id, "evaluation/bin/accuracy")
    assert [(metric.step, metric.value) for metric in history] == ACCURACIES
    assert len(client.get_metric_history(run.info.run_id, "evaluation/pairs/accuracy")) == 1


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def visdom_server(tmp_path: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A real server; started by its function, without the download of scripts that its command begins with."""
    pytest.importorskip("visdom")
    port = free_port()
    code = (
        "import sys; from visdom.server.run_server import start_server;"
        " start_server(int(sys.argv[1]), base_url='', env_path=sys.argv[2], bind_local=True)"
    )
    server = subprocess.Popen([sys.executable, "-c", code, str(port), str(tmp_path / "visdom")])
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, "the server did not start"
            time.sleep(0.1)
        yield port, server
    finally:
        server.kill()
        server.wait()


def test_visdom(tmp_path: Path, visdom_server: tuple[int, Any]) -> None:
    port, _ = visdom_server
    log = {"loggers": ["visdom"], "visdom_server": "http://127.0.0.1", "visdom_port": port}
    interrupted(tmp_path / "run", log)
    import visdom

    client = visdom.Visdom("http://127.0.0.1", port=port, env="run", use_incoming_socket=False)
    windows = json.loads(client.get_window_data(env="run"))
    assert set(windows) == {"configuration", "loss", "accuracy", "learning rate"}
    assert "name: mbf" in windows["configuration"]["content"]
    drawn = {name: lines_of(window) for name, window in windows.items() if name != "configuration"}
    assert drawn["loss"] == {"training": LOSSES}
    assert drawn["accuracy"] == {
        "training": [(10, 0.1), (20, 0.2), (30, 0.3), (40, 0.4)],
        "bin": ACCURACIES,
        "pairs": [(20, 0.99)],
    }
    assert drawn["learning rate"] == {"training": [(step, 0.1) for step, _ in LOSSES]}
    assert (tmp_path / "visdom" / "run.json").exists()


def lines_of(window: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    return {line["name"]: list(zip(line["x"], line["y"], strict=True)) for line in window["content"]["data"]}


def test_a_server_that_goes_is_one_warning(
    tiny: Tiny,
    trained: Trained,
    visdom_server: tuple[int, subprocess.Popen[bytes]],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    port, server = visdom_server
    config = tiny(
        "log.loggers=[visdom]", "log.visdom_server=http://127.0.0.1", f"log.visdom_port={port}", "log.every=1"
    )
    from faceprint.training.loop import train
    from faceprint.training.opening import open_run

    run = open_run(config)
    records: Records = []

    def report(record: dict[str, Any]) -> None:
        records.append(record)
        if record["step"] == 2:
            server.kill()
            server.wait()

    with caplog.at_level(logging.WARNING, "faceprint"):
        train(run, report)
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert len([line for line in caplog.messages if "visdom logger failed" in line]) == 1


def test_a_server_that_was_never_there_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("visdom")
    log = {"loggers": ["visdom"], "visdom_server": "http://127.0.0.1", "visdom_port": free_port()}
    part(tmp_path / "run", log, [train_record(10), train_record(20)])
    assert len([line for line in caplog.messages if "visdom logger failed" in line]) == 1
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_logger_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in (("wandb", "wandb"), ("mlflow", "mlflow"), ("visdom", "visdom")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(UserError, match=rf"pip install 'faceprint\[{name}\]'"):
            part(tmp_path / "run", {"loggers": [name]}, [])


def test_a_logger_that_hangs_does_not_hold_the_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import threading

    from faceprint.training.logging import background

    class Hanging:
        def recall(self, record: Mapping[str, Any]) -> None: ...

        def write(self, record: Mapping[str, Any]) -> None:
            threading.Event().wait(30)

        def close(self) -> None: ...

    monkeypatch.setattr(background, "PATIENCE_SECONDS", 0.1)
    began = time.monotonic()
    logger = Background("slow", Hanging)
    logger.write(train_record(1))
    logger.close()
    assert time.monotonic() - began < 5
    assert "did not take its last records" in caplog.text
