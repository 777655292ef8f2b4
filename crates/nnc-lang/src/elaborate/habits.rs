//! What stands in this language for names that users of Python and PyTorch write from habit: the help of an unknown name.

/// A name, and what to write.
const HABITS: [(&str, &str); 22] = [
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
    ("detach", "write `stop_gradient(x)`"),
    ("linear", "write `dense(x, units)`"),
    ("Linear", "write `dense(x, units)`"),
    ("binary_cross_entropy", "`bce_logits(logits, target)` takes scores before a `sigmoid`"),
];

/// What to write instead of a name that nothing binds, if it is one of those.
pub(super) fn instead_of(name: &str) -> Option<&'static str> {
    HABITS.iter().find(|(habit, _)| *habit == name).map(|(_, instead)| *instead)
}
