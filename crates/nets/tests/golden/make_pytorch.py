"""Makes tiny.pth: a checkpoint as people save them, nested, with tensors of every width. PyTorch 2.15.0."""
import pathlib

import torch

counted = torch.arange(6) / 2
tensors = {
    "module.single": counted.reshape(2, 3),
    "module.double": counted.double(),
    "module.half": counted.half(),
    "module.bfloat16": counted.bfloat16(),
    "module.turned": counted.reshape(2, 3).T,
    "module.num_batches_tracked": torch.tensor(7),
}
torch.save({"epoch": 3, "state_dict": tensors}, pathlib.Path(__file__).with_name("tiny.pth"))
