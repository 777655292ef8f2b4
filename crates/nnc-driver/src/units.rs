//! Numbers of bytes, for people.

/// `12.3 MB`, in powers of 1000.
pub fn bytes(number: u64) -> String {
    let (value, unit) = scaled(number);
    if unit == "B" { format!("{number} B") } else { format!("{value:.1} {unit}") }
}

/// As [`bytes`], never less than the number.
pub fn bytes_or_more(number: u64) -> String {
    let (value, unit) = scaled(number);
    if unit == "B" { format!("{number} B") } else { format!("{:.1} {unit}", (10.0 * value).ceil() / 10.0) }
}

/// A number of bytes in the unit that suits it.
fn scaled(number: u64) -> (f64, &'static str) {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    (value, units[unit])
}
