"""The network that judges realism."""

import torch
from accelerate import Accelerator
from torch import nn
from torchvision import models

from latentdc.images import Normalization
from latentdc.pca import teacher
from latentdc.recipe import Scorer
from tests.evaluate.toys import TEST


class Blank(nn.Module):
    """Notes what it sees."""

    def forward(self, images):
        self.seen = images
        return torch.zeros(len(images), 1000)


def test_a_torchvision_teacher_sees_whole_images_at_their_size(monkeypatch):
    """Its own preparation would enlarge them and crop the centre, and so cut a canvas."""
    network = Blank()
    monkeypatch.setattr(models, "get_model", lambda *_, **__: network)
    monkeypatch.setattr(teacher, "real_accuracy", lambda *_: 1.0)
    names = {"class_names": ("tench", "parachute", "chain saw"), "resolution": 8}
    train = type("Train", (), names)
    scorer = Scorer(network="resnet18", weights="torchvision", mean=(0.5,) * 3, std=(0.5,) * 3)
    judge, _ = teacher.trained_teacher(scorer, train, TEST, Normalization(), 0, Accelerator())
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    judge(images)
    torch.testing.assert_close(network.seen, images)
