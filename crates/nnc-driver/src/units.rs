//! Numbers of bytes, for people.

/// `12.3 MB`, in powers of 1000.
pub fn bytes(number: u64) -> String {
    rounded(number, |tenths| tenths)
}

/// As [`bytes`], never less than the number.
pub fn bytes_or_more(number: u64) -> String {
    rounded(number, f64::ceil)
}

fn rounded(number: u64, round: impl Fn(f64) -> f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{:.1} {}", round(10.0 * value) / 10.0, units[unit]) }
}
