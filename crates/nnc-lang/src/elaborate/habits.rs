//! What stands in this language for names that users of Python and PyTorch write from habit: the help of an unknown name.

/// A name, and what to write.
const HABITS: [(&str, &str); 33] = [
    ("None", "leave an argument out to have its default"),
    ("range", "a range is written `0..3`"),
    ("break", "a `for` unrolls, and has all its turns: choose them before, or compute with `where(condition, a, b)`"),
    ("continue", "a `for` unrolls, and has all its turns: put the rest of the body under `if`"),
    ("print", "nothing is printed on the way: `metric` and `answer` tell of values"),
    ("assert", "write `require(condition, \"message\")`, of what is known at compile time"),
    ("matmul", "the matrix product is `a @ b`"),
    ("bmm", "the matrix product is `a @ b`"),
    ("mm", "the matrix product is `a @ b`"),
    ("dot", "the product of vectors is `a @ b`"),
    ("einsum", "write it with `@`, `transpose`, `*` and `sum`"),
    ("cat", "write `concat([a, b], axis=0)`"),
    ("concatenate", "write `concat([a, b], axis=0)`"),
    ("view", "write `reshape(x, [N, -1])`"),
    ("permute", "write `transpose(x, [0, 2, 1])`"),
    ("arange", "`iota(4)` is 0 to 3, as i32"),
    ("unsqueeze", "`x[:, new]` has a new axis of size 1"),
    ("squeeze", "`x[:, 0]` is without its axis 1"),
    ("gather", "`take_along(x, indices)` takes entries of each row, `take(x, indices, axis=0)` whole rows"),
    ("take_along_dim", "write `take_along(x, indices, axis=-1)`"),
    ("take_along_axis", "write `take_along(x, indices, axis=-1)`"),
    ("cumprod", "write `scan row in x axis 0 with total = ones([D]) { total = total * row; yield total }`"),
    ("roll", "write `concat([x[1..], x[0..1]], axis=0)`, which moves all by one place"),
    ("flip", "write `take(x, W - 1 - iota(W), axis=-1)`, with `W` the size of that axis"),
    ("sort", "nothing sorts; `top_k(scores, k)` keeps the `k` largest, and `argmax(x)` tells where the largest is"),
    ("std", "write `sqrt(var)` with `var = mean((x - mean(x, axis=-1, keep=true)) ** 2, axis=-1)`"),
    ("var", "write `mean((x - mean(x, axis=-1, keep=true)) ** 2, axis=-1)`"),
    ("det", "there is none, as there is no inverse and no decomposition of a matrix"),
    ("inverse", "there is none, as there is no determinant and no decomposition of a matrix"),
    ("detach", "write `stop_gradient(x)`"),
    ("linear", "write `dense(x, units)`"),
    ("Linear", "write `dense(x, units)`"),
    ("binary_cross_entropy", "`bce_logits(logits, target)` takes scores before a `sigmoid`"),
];

/// What to write instead of a name that nothing binds, if it is one of those.
pub(super) fn instead_of(name: &str) -> Option<&'static str> {
    HABITS.iter().find(|(habit, _)| *habit == name).map(|(_, instead)| *instead)
}
