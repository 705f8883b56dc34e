"""The check of class numbers on real photographs."""

from contextlib import suppress

import pytest
import torch
from PIL import Image

from latentdc.evaluate import class_numbers
from tests.shared import shared_data
from tests.synthetic.foreign.test_numbers import evaluate

STEPS = class_numbers.STEPS  # as they are, which conftest.py lowers for patterns


@pytest.mark.slow
def test_photographs_in_a_wrong_order_never_pass_without_a_word(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(class_numbers, "STEPS", STEPS)
    source = shared_data("imagenette")
    (tmp_path / "mine.yaml").write_text(
        f"data: {{source: {source}, resolution: 32, test: val, cache: {tmp_path / 'cache'}}}\n"
        "evaluate: {rows: [distilled, random]}\n"
    )
    ids = sorted(path.name for path in (source / "val").iterdir())
    generator = torch.Generator().manual_seed(0)
    for trial in range(6):
        order = torch.randperm(10, generator=generator).tolist()
        for name, places in (("right", range(10)), ("wrong", order)):
            for number, place in enumerate(places):
                folder = tmp_path / f"{name}{trial}" / f"{number:05d}"
                folder.mkdir(parents=True)
                files = sorted((source / "val" / ids[place]).iterdir())[6 * trial :][:6]
                for file in files:
                    image = Image.open(file).convert("RGB").resize((32, 32))
                    image.save(folder / f"{file.stem}.png")
    evaluate(*[f"right{trial}" for trial in range(6)])
    assert "as their class numbers do" not in capsys.readouterr().err
    for trial in range(6):
        with suppress(SystemExit):
            evaluate(f"wrong{trial}")
    said = capsys.readouterr().err
    assert all(f"images of wrong{trial} as" in said for trial in range(6))
