"""Work for processes that loads its libraries when they have started."""

import numpy as np
from threadpoolctl import threadpool_info


def threads_of_products(_: int) -> int:
    """Most threads that a product of matrices takes here."""
    assert np.eye(2).shape == (2, 2)
    return max(found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas")
