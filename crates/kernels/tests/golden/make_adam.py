"""Prints adam.rs: five steps of torch.optim.Adam and torch.optim.AdamW on 21 parameters.

    python make_adam.py > adam.rs     (torch 2.15.0, numpy 2.4.6)
"""
import numpy as np
import torch


def const(name, values):
    """One Rust array, wrapped at 100 characters; each number is the shortest that reads back to the same float."""
    words = [str(np.float32(value)) for value in np.asarray(values).ravel()]
    print(f"pub(crate) const {name}: [f32; {len(words)}] = [")
    line = "   "
    for word in words:
        if len(line) + len(word) > 100:
            print(line)
            line = "   "
        line += f" {word},"
    print(line + "\n];")


def run(name, parameter, gradients, make):
    tensor = torch.tensor(parameter, requires_grad=True)
    optimiser = make([tensor])
    for gradient in gradients:
        tensor.grad = torch.tensor(gradient)
        optimiser.step()
    state = optimiser.state[tensor]
    const(f"{name}_PARAMETER", tensor.detach().numpy())
    const(f"{name}_FIRST", state["exp_avg"].numpy())
    const(f"{name}_SECOND", state["exp_avg_sq"].numpy())


rng = np.random.default_rng(7)
parameter = rng.standard_normal(21).astype(np.float32)
gradients = (rng.standard_normal((5, 21)) * 10.0 ** rng.integers(-4, 2, 21)).astype(np.float32)
print(f"//! Printed by make_adam.py with torch {torch.__version__.split('+')[0]}, numpy {np.__version__}.\n")
const("PARAMETER", parameter)
const("GRADIENTS", gradients)
run("ADAM", parameter, gradients, lambda p: torch.optim.Adam(p, lr=0.02, weight_decay=0.1))
run("ADAMW", parameter, gradients,
    lambda p: torch.optim.AdamW(p, lr=0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1))
