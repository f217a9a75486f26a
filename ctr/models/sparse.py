"""Products of sparse matrices on a CPU, whose places are given in the order of their rows."""

import warnings

import torch
from torch import Tensor

warnings.filterwarnings("ignore", "Sparse (CSR tensor support|invariant checks)", UserWarning)


def starts_of(row: Tensor, rows: int) -> Tensor:
    """int32 (rows + 1,): how many of the places, in the order of their rows, lie before each."""
    return torch.searchsorted(row, torch.arange(rows + 1, dtype=torch.int32), out_int32=True)


def sparse(starts: Tensor, column: Tensor, values: Tensor, columns: int) -> Tensor:
    """The CSR matrix of `columns`, whose row i has the places from starts[i] on."""
    shape = (len(starts) - 1, columns)
    return torch.sparse_csr_tensor(starts, column, values, shape, check_invariants=False)


def sampled_product(starts: Tensor, column: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """(n,): of each place left[its row] . right[its column]."""
    places = sparse(starts, column, left.new_zeros(len(column)), len(right))
    return torch.sparse.sampled_addmm(places, left, right.T, beta=0).values()


def transposed_product(
    starts: Tensor, column: Tensor, values: Tensor, columns: int, right: Tensor
) -> Tensor:
    """S^T right, (columns, X), of a CSR matrix S (rows, columns) and `right` (rows, X).

    torch would sort S by its columns first, which takes far longer than the product.
    """
    from scipy.sparse import csr_array  # of training alone

    parts = (values.numpy(), column.numpy(), starts.numpy())
    matrix = csr_array(parts, shape=(len(starts) - 1, columns))
    return torch.from_numpy(matrix.T @ right.numpy())
