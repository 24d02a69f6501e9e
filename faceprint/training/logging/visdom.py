"""Visdom: a window a figure, in an environment with the run's name."""

from __future__ import annotations

import html
import logging
from collections.abc import Mapping
from typing import Any

import yaml

from faceprint.training.logging.run_info import RunInfo, require

WINDOWS = {"loss": "loss", "train_accuracy": "accuracy", "accuracy": "accuracy", "learning_rate": "learning rate"}
"""Key of a record -> the window that it is drawn in."""


class Visdom:
    """Draws loss, accuracy and learning rate on the server `log.visdom_server`, port `log.visdom_port`.

    Lines are begun anew and get all points of a resumed run, whatever the server still had.
    """

    def __init__(self, run: RunInfo) -> None:
        module = require("visdom", "visdom")
        logging.getLogger("visdom").setLevel(logging.ERROR)  # it warns of what was chosen here
        self._server = module.Visdom(
            server=run.log.visdom_server,
            port=run.log.visdom_port,
            env=run.name,
            raise_exceptions=True,
            use_incoming_socket=False,
        )
        self._env = run.name
        keys = yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True)
        self._server.text(f"<pre>{html.escape(keys)}</pre>", win="configuration", opts={"title": "configuration"})
        self._begun: dict[str, set[str]] = {}

    def recall(self, record: Mapping[str, Any]) -> None:
        self.write(record)

    def write(self, record: Mapping[str, Any]) -> None:
        for key, window in WINDOWS.items():
            if key in record:
                self._append(window, str(record.get("protocol", "training")), record["step"], record[key])

    def _append(self, window: str, line: str, step: int, value: float) -> None:
        """The first point of a window makes it, in place of an old one; the first of a further line is added to it."""
        lines = self._begun.setdefault(window, set())
        answer = self._server.line(
            X=[step],
            Y=[value],
            win=window,
            name=line,
            update="append" if lines else None,
            opts={"title": window, "xlabel": "step", "ylabel": window, "showlegend": True},
        )
        if answer != window:  # the client takes an error page for an answer
            raise RuntimeError(f"the server answered {answer[:100]!r}")
        lines.add(line)

    def close(self) -> None:
        self._server.save([self._env])
