//! The header of an `.npy` file: a Python dict literal with three known keys.
//!
//! ```text
//! {'descr': '<f4', 'fortran_order': False, 'shape': (60000, 28, 28), }
//! ```
//! Keys may come in any order, quotes may be single or double, a trailing comma is allowed, and so
//! is the `L` that Python 2 put after integers. Nothing nests, so nothing recurses.

/// What the header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entries {
    pub descr: String,
    pub fortran_order: bool,
    pub shape: Vec<u64>,
}

/// What is wrong, and where in the header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub offset: usize,
    pub message: String,
}

/// Reads the dict.
pub(super) fn parse(text: &[u8]) -> Result<Entries, Fault> {
    let mut scanner = Scanner { text, offset: 0 };
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    scanner.expect(b'{')?;
    while !scanner.accept(b'}') {
        let key = scanner.string()?;
        scanner.expect(b':')?;
        match key.as_str() {
            "descr" => descr = Some(scanner.descr()?),
            "fortran_order" => fortran_order = Some(scanner.boolean()?),
            "shape" => shape = Some(scanner.shape()?),
            _ => return Err(scanner.fault(format!("the header has an unknown key `{key}`"))),
        }
        if !scanner.accept(b',') {
            scanner.expect(b'}')?;
            break;
        }
    }
    scanner.end()?;
    match (descr, fortran_order, shape) {
        (Some(descr), Some(fortran_order), Some(shape)) => Ok(Entries { descr, fortran_order, shape }),
        (None, _, _) => Err(scanner.fault("the header lacks `descr`")),
        (_, None, _) => Err(scanner.fault("the header lacks `fortran_order`")),
        (_, _, None) => Err(scanner.fault("the header lacks `shape`")),
    }
}

/// A position in the header.
struct Scanner<'a> {
    text: &'a [u8],
    offset: usize,
}

impl Scanner<'_> {
    /// A fault here.
    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault { offset: self.offset, message: message.into() }
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text[self.offset..];
        let blanks = rest.iter().take_while(|byte| byte.is_ascii_whitespace());
        self.offset += blanks.count();
        self.text.get(self.offset).copied()
    }

    /// Takes `byte` if it is next.
    fn accept(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.offset += usize::from(found);
        found
    }

    /// Takes `byte`, which must be next.
    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.accept(byte) {
            return Ok(());
        }
        Err(self.fault(format!("the header is damaged: expected `{}`", char::from(byte))))
    }

    /// Only white space may follow.
    fn end(&mut self) -> Result<(), Fault> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.fault("the header is damaged: there is text after the dict")),
        }
    }

    /// The longest run of bytes that satisfy `belongs`.
    fn run(&mut self, belongs: impl Fn(&u8) -> bool) -> String {
        let rest = &self.text[self.offset..];
        let length = rest.iter().take_while(|byte| belongs(byte)).count();
        self.offset += length;
        String::from_utf8_lossy(&rest[..length]).into_owned()
    }

    /// A string in quotes, without escapes.
    fn string(&mut self) -> Result<String, Fault> {
        let quote = match self.peek() {
            Some(quote @ (b'\'' | b'"')) => quote,
            Some(_) | None => return Err(self.fault("the header is damaged: expected a string")),
        };
        self.offset += 1;
        let string = self.run(|&byte| byte != quote && byte != b'\\');
        if self.text.get(self.offset) != Some(&quote) {
            return Err(self.fault("the header is damaged: a string has no end"));
        }
        self.offset += 1;
        Ok(string)
    }

    /// The type of an element; a list of fields is refused.
    fn descr(&mut self) -> Result<String, Fault> {
        if self.peek() == Some(b'[') {
            return Err(self.fault("the array is structured, only arrays of one plain type are read"));
        }
        self.string()
    }

    /// `True` or `False`.
    fn boolean(&mut self) -> Result<bool, Fault> {
        self.peek();
        match self.run(u8::is_ascii_alphabetic).as_str() {
            "True" => Ok(true),
            "False" => Ok(false),
            _ => Err(self.fault("the header is damaged: expected True or False")),
        }
    }

    /// A tuple of extents.
    fn shape(&mut self) -> Result<Vec<u64>, Fault> {
        let mut shape = Vec::new();
        self.expect(b'(')?;
        while !self.accept(b')') {
            self.peek();
            let digits = self.run(u8::is_ascii_digit);
            let extent = digits.parse();
            shape.push(extent.map_err(|_| self.fault("the header is damaged: expected an extent"))?);
            self.accept(b'L');
            if !self.accept(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_numpy_writes() {
        let text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }      \n";
        let entries = parse(text).unwrap();
        assert_eq!(entries.descr, "<f4");
        assert!(!entries.fortran_order);
        assert_eq!(entries.shape, [3, 4]);
    }

    #[test]
    fn keys_and_quotes_are_free() {
        let text = b"{\"shape\":(7L,),\"fortran_order\":True,\"descr\":\"|u1\"}";
        assert_eq!(parse(text).unwrap().shape, [7]);
        let scalar = parse(b"{'descr':'<i8','fortran_order':False,'shape':()}");
        assert_eq!(scalar.unwrap().shape, [0u64; 0]);
    }

    #[test]
    fn damage_is_reported_with_its_place() {
        let fault = parse(b"{'descr': [('a', '<f4')], }").unwrap_err();
        assert!(fault.message.contains("structured"));
        assert_eq!(fault.offset, 10);
        for text in [
            &b""[..],
            b"{",
            b"{'descr': '<f4'}",
            b"{'descr': '<f4', 'fortran_order': Maybe}",
            b"{'shape': (1 2)}",
            b"{'shape': (99999999999999999999,)}",
            b"{'shape': (-1,)}",
            b"{'colour': 'red'}",
            b"{'descr': 'a\\'b'}",
        ] {
            assert!(parse(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
    }
}
