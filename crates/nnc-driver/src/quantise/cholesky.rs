//! The Cholesky factor of a symmetric matrix: `L`, lower triangular, with `L Lᵀ` the matrix (G. Golub, C. Van Loan,
//! "Matrix Computations", 4th edition, 2013, §4.2.9, block outer product form).
//!
//! Rows of `Lᵀ` are made in panels; what a panel takes from the rows behind it is taken by several threads. Each element
//! is made by one thread in the order of the panels, so that any number of threads gives the same bits. `n³ / 3`
//! multiply-adds in f64.

/// Rows of a panel, which stays in a cache while the rows behind it are updated.
const PANEL: usize = 32;

/// The factor of a matrix `[n, n]`, row-major; `None` if it is not positive definite as far as rounding tells.
pub fn factor(mut matrix: Vec<f64>, n: usize, threads: usize) -> Option<Vec<f32>> {
    for first in (0..n).step_by(PANEL) {
        let height = PANEL.min(n - first);
        let (done, behind) = matrix.split_at_mut((first + height) * n);
        let panel = &mut done[first * n..];
        factor_panel(panel, (first, n))?;
        let panel = &*panel;
        let each = behind.len().div_ceil(n).div_ceil(threads.max(1)).max(1);
        std::thread::scope(|scope| {
            for (part, rows) in behind.chunks_mut(each * n).enumerate() {
                let first_row = first + height + part * each;
                scope.spawn(move || {
                    rows.chunks_mut(n).enumerate().for_each(|(at, row)| take(panel, row, first_row + at));
                });
            }
        });
    }
    let lower = |at: usize| if at % n <= at / n { matrix[at % n * n + at / n] as f32 } else { 0.0 };
    Some((0..n * n).map(lower).collect())
}

/// Makes the rows of `Lᵀ` from `first` on out of a panel that all rows before it have been taken from.
fn factor_panel(panel: &mut [f64], (first, n): (usize, usize)) -> Option<()> {
    for at in 0..panel.len() / n {
        let (before, rest) = panel.split_at_mut(at * n);
        let row = &mut rest[..n];
        take(before, row, first + at);
        let pivot = row[first + at];
        if pivot.is_nan() || pivot <= 0.0 || pivot.is_infinite() {
            return None;
        }
        let root = pivot.sqrt();
        row[first + at..].iter_mut().for_each(|element| *element /= root);
    }
    Some(())
}

/// Takes from row `at` of the matrix, from its diagonal on, what rows of `Lᵀ` before it have of it.
fn take(rows: &[f64], row: &mut [f64], at: usize) {
    let n = row.len();
    let (fours, rest) = rows.split_at(rows.len() / (4 * n) * 4 * n);
    for four in fours.chunks_exact(4 * n) {
        // Four at a time, so that the row is read and written once for all of them.
        let [a, b, c, d] = [0, 1, 2, 3].map(|of| &four[of * n + at..][..n - at]);
        let shares = [a[0], b[0], c[0], d[0]];
        for (column, element) in row[at..].iter_mut().enumerate() {
            let taken = shares[0] * a[column] + shares[1] * b[column] + (shares[2] * c[column] + shares[3] * d[column]);
            *element -= taken;
        }
    }
    for before in rest.chunks_exact(n) {
        let share = before[at];
        row[at..].iter_mut().zip(&before[at..]).for_each(|(element, other)| *element -= share * other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `A Aᵀ` of a matrix of numbers that follow no pattern, with something on the diagonal.
    fn matrix(n: usize) -> Vec<f64> {
        let a = |at: usize| ((at * 7919 + 13) % 2003) as f64 / 1001.5 - 1.0;
        let product = |at: usize| (0..n).map(|k| a(at / n * n + k) * a(at % n * n + k)).sum::<f64>();
        (0..n * n).map(|at| product(at) + if at / n == at % n { 0.1 } else { 0.0 }).collect()
    }

    #[test]
    fn the_factor_by_its_transpose_is_the_matrix() {
        for n in [1, 2, 31, 32, 33, 100] {
            let wanted = matrix(n);
            let factor = factor(wanted.clone(), n, 2).unwrap();
            for (at, wanted) in wanted.iter().enumerate() {
                let (row, column) = (&factor[at / n * n..][..n], &factor[at % n * n..][..n]);
                let found: f64 = row.iter().zip(column).map(|(a, b)| f64::from(a * b)).sum();
                assert!((found - wanted).abs() < 1e-4 * n as f64, "{n}: element {at} is {found}, not {wanted}");
            }
        }
    }

    #[test]
    fn threads_change_nothing() {
        let found = |threads| factor(matrix(130), 130, threads).unwrap();
        assert!((2..5).all(|threads| found(threads) == found(1)));
    }

    #[test]
    fn what_is_not_positive_definite_has_none() {
        assert_eq!(factor(vec![1.0, 2.0, 2.0, 1.0], 2, 1), None);
        assert_eq!(factor(vec![f64::NAN], 1, 1), None);
        assert_eq!(factor(vec![0.0], 1, 1), None);
    }
}
