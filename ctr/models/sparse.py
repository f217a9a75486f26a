"""Products of sparse matrices on a CPU, whose places are given in the order of their rows."""

import warnings

import torch
from torch import Tensor

warnings.filterwarnings("ignore", "Sparse (CSR tensor support|invariant checks)", UserWarning)


def sampled_product(row: Tensor, column: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """(n,): left[row] . right[column], for places in the order of their rows."""
    places = sparse(row, column, left.new_zeros(len(row)), len(left), len(right))
    return torch.sparse.sampled_addmm(places, left, right.T, beta=0).values()


def sparse(row: Tensor, column: Tensor, values: Tensor, rows: int, columns: int) -> Tensor:
    """The CSR matrix with `values` at places given in the order of their rows."""
    starts = starts_of(row, rows)
    return torch.sparse_csr_tensor(starts, column, values, (rows, columns), check_invariants=False)


def starts_of(row: Tensor, rows: int) -> Tensor:
    """int32 (rows + 1,): how many of the places, in the order of their rows, lie before each."""
    return torch.searchsorted(row, torch.arange(rows + 1, dtype=torch.int32), out_int32=True)


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
