"""What several tests of the language models share: a pair that learned four sentences by heart."""

import pytest
import torch
from tiny_language import ar_model, nar_model, overfit


@pytest.fixture(scope="session")
def fluent():
    """An AR and a NAR model that know four sentences, and the losses of their trainings."""
    torch.set_num_threads(1)
    ar = ar_model(input_drop=0.0, hidden_size=48)
    nar = nar_model(input_drop=0.0, hidden_size=48)
    return ar, nar, overfit(ar, 160), overfit(nar, 100)
