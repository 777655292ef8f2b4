//! Quoted cells of a table as text (RFC 4180): a cell that begins with `"` ends at the next one, `""` within it is a
//! mark, and separators and line ends in it are letters. What reads the cells takes any text for some table, and so a
//! mark that quotes nothing for a cell of many lines; here it is found.

/// A mark at the beginning of a cell that quotes nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Which cell of the record, from 0.
    pub(crate) column: usize,
    /// Where the mark stands in the record.
    pub(crate) opens: usize,
    /// Where the mark stands that closes the cell, which goes on behind it; `None` if nothing closes it.
    pub(crate) closes: Option<usize>,
}

/// Looks at the quoted cells of a record. Gives whether one of them goes over the end of a line.
///
/// # Errors
/// The first mark that quotes nothing.
pub(crate) fn check(record: &[u8], separator: u8) -> Result<bool, Fault> {
    let is_end = |byte: u8| byte == separator || matches!(byte, b'\r' | b'\n');
    let (mut at, mut column, mut is_long) = (0, 0, false);
    loop {
        if record.get(at) == Some(&b'"') {
            let opens = at;
            let closes = closing(record, opens).ok_or(Fault { column, opens, closes: None })?;
            is_long |= record[opens..closes].contains(&b'\n');
            at = closes + 1;
            if record.get(at).is_some_and(|&byte| !is_end(byte)) {
                return Err(Fault { column, opens, closes: Some(closes) });
            }
        } else {
            at += record[at..].iter().take_while(|&&byte| !is_end(byte)).count();
        }
        if record.get(at) != Some(&separator) {
            return Ok(is_long);
        }
        at += 1;
        column += 1;
    }
}

/// The mark that closes the cell which one at `opens` begins.
fn closing(record: &[u8], opens: usize) -> Option<usize> {
    let mut at = opens + 1;
    loop {
        at += record.get(at..)?.iter().position(|&byte| byte == b'"')?;
        if record.get(at + 1) != Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, check};

    #[test]
    fn cells_are_quoted_or_said_not_to_be() {
        let of = |record: &str| check(record.as_bytes(), b',');
        for record in ["", "a,b", "a \"b\",c\n", "\"a\",\"b\"\r\n", "\"a \"\"b\"\"\",c", "\"\",\"\"\"\"", "\"a,b\","] {
            assert_eq!(of(record), Ok(false), "{record}");
        }
        assert_eq!(of("1,\"a\nb\"\n"), Ok(true));
        assert_eq!(of("a,\"b\n"), Err(Fault { column: 1, opens: 2, closes: None }));
        assert_eq!(of("\"\"\""), Err(Fault { column: 0, opens: 0, closes: None }));
        assert_eq!(of("\"a\nb \"c\" d\",1"), Err(Fault { column: 0, opens: 0, closes: Some(5) }));
    }
}
