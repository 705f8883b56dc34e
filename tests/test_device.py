import torch

from latentdc.images import forward_batch

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def images(size: int) -> torch.Tensor:
    return torch.empty(1, 3, size, size, dtype=torch.uint8)


def test_a_forward_pass_on_a_cpu_takes_as_many_images_as_its_caches_hold(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert [forward_batch(images(size), 512, CPU) for size in (8, 32, 224)] == [512, 65, 8]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert [forward_batch(images(size), 512, CPU) for size in (32, 224)] == [260, 8]


def test_a_forward_pass_takes_no_more_than_it_may_and_as_much_elsewhere():
    assert forward_batch(images(32), 5, CPU) == 5
    assert forward_batch(images(224), 256, GPU) == 256
    assert forward_batch(torch.empty(9, 512), 256, CPU) == 256  # vectors
