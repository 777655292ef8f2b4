//! Reading one line: words, quoted text, numbers, dims and types.

use crate::{DType, Dim, TensorType};

/// Nesting of quotients and parentheses in a dim that is still read.
const DEEPEST: usize = 32;

/// What is left of a line.
pub(super) struct Cursor<'t> {
    rest: &'t str,
}

pub(super) type Read<T> = Result<T, String>;

impl<'t> Cursor<'t> {
    pub(super) fn new(line: &'t str) -> Self {
        Self { rest: line.trim() }
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    pub(super) fn is_at_end(&mut self) -> bool {
        self.skip_blanks();
        self.rest.is_empty()
    }

    /// Takes `symbol` if it comes next.
    pub(super) fn take(&mut self, symbol: &str) -> bool {
        self.skip_blanks();
        match self.rest.strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    pub(super) fn expect(&mut self, symbol: &str) -> Read<()> {
        if self.take(symbol) { Ok(()) } else { Err(format!("expected `{symbol}` {}", self.here())) }
    }

    /// Says what comes next, for a message.
    pub(super) fn here(&self) -> String {
        let next: String = self.rest.trim_start().chars().take(12).collect();
        if next.is_empty() { "at the end of the line".to_owned() } else { format!("before `{next}`") }
    }

    pub(super) fn next_is(&mut self, symbol: char) -> bool {
        self.skip_blanks();
        self.rest.starts_with(symbol)
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'t str {
        self.skip_blanks();
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// A name of an op, an attribute, a dtype or a dim.
    pub(super) fn word(&mut self) -> Read<&'t str> {
        let word = self.take_while(|c| c.is_alphanumeric() || "_.$?'@#".contains(c));
        if word.is_empty() { Err(format!("expected a name {}", self.here())) } else { Ok(word) }
    }

    /// What stands until the next blank, comma or bracket.
    pub(super) fn literal(&mut self) -> Read<&'t str> {
        let literal = self.take_while(|c| !c.is_whitespace() && !",[]():".contains(c));
        if literal.is_empty() { Err(format!("expected a number {}", self.here())) } else { Ok(literal) }
    }

    /// Quoted text, or all that stands until the next blank.
    pub(super) fn text_or_word(&mut self) -> Read<String> {
        if self.next_is('"') {
            return self.text();
        }
        Ok(self.take_while(|c| !c.is_whitespace()).to_owned())
    }

    /// Quoted text.
    pub(super) fn text(&mut self) -> Read<String> {
        self.expect("\"")?;
        let mut text = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => text.push(escape(&mut chars)?),
                c => text.push(c),
            }
        }
        Err("quoted text does not end".to_owned())
    }

    /// `%7`.
    pub(super) fn value(&mut self) -> Read<u32> {
        self.expect("%")?;
        let digits = self.take_while(|c| c.is_ascii_digit());
        digits.parse().map_err(|_| format!("expected the number of a value {}", self.here()))
    }

    /// Items between brackets with commas between them.
    pub(super) fn list<T>(
        &mut self,
        (open, close): (&str, &str),
        mut item: impl FnMut(&mut Self) -> Read<T>,
    ) -> Read<Vec<T>> {
        self.expect(open)?;
        let mut items = Vec::new();
        if self.take(close) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.take(close) {
                return Ok(items);
            }
            self.expect(",")?;
        }
    }

    pub(super) fn ty(&mut self) -> Read<TensorType> {
        let word = self.word()?;
        let dtype = DType::from_name(word).ok_or_else(|| format!("`{word}` is no dtype"))?;
        if !self.next_is('[') {
            return Ok(TensorType::scalar(dtype));
        }
        let dims = self.list(("[", "]"), Self::dim)?;
        match dims.iter().find(|dim| dim.as_number().is_some_and(|number| number < 1)) {
            Some(dim) => Err(format!("the dim {dim} is below 1")),
            None => Ok(TensorType::new(dtype, dims)),
        }
    }

    /// A dim as it prints: `2 * N + 1`, `2 * (N / 3)`, `(N - 1) % 2`.
    pub(super) fn dim(&mut self) -> Read<Dim> {
        self.sum(0)
    }

    fn sum(&mut self, depth: usize) -> Read<Dim> {
        let negative = self.take("-");
        let first = self.product(depth)?;
        let mut sum = if negative { -first } else { first };
        loop {
            if self.take("+") {
                sum = sum + self.product(depth)?;
            } else if self.take("-") {
                sum = sum - self.product(depth)?;
            } else {
                return Ok(sum);
            }
        }
    }

    fn product(&mut self, depth: usize) -> Read<Dim> {
        let (mut product, mut depth) = (self.factor(depth)?, depth);
        loop {
            if self.take("*") {
                product = product * self.factor(depth)?;
                continue;
            }
            let divides = self.take("/");
            if !divides && !self.take("%") {
                return Ok(product);
            }
            depth += 1;
            let divisor = self.factor(depth)?;
            let result = if divides { product.floor_div(&divisor) } else { product.remainder(&divisor) };
            product = result.ok_or_else(|| "a dim is divided by 0".to_owned())?;
        }
    }

    fn factor(&mut self, depth: usize) -> Read<Dim> {
        if depth > DEEPEST {
            return Err("a dim is nested too deeply".to_owned());
        }
        if self.take("(") {
            let inner = self.sum(depth + 1)?;
            self.expect(")")?;
            return Ok(inner);
        }
        let word = self.word()?;
        if !word.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(Dim::name(word));
        }
        // The least i64 prints as a minus and a number that is one too large.
        let number: u64 = word.parse().map_err(|_| format!("`{word}` is no dim"))?;
        Ok(i64::try_from(number).map_or_else(|_| Dim::from(i64::MIN), Dim::from))
    }
}

/// What stands for a character after a backslash.
fn escape(chars: &mut std::str::CharIndices<'_>) -> Read<char> {
    match chars.next().map(|(_, c)| c) {
        Some('n') => Ok('\n'),
        Some(c @ ('"' | '\\')) => Ok(c),
        Some('u') => {
            let digits: String = chars.map(|(_, c)| c).skip_while(|c| *c == '{').take_while(|c| *c != '}').collect();
            let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
            code.ok_or_else(|| format!("`{digits}` is the code of no character"))
        }
        other => Err(format!("unknown escape `\\{}`", other.unwrap_or(' '))),
    }
}

/// Text in quotes, as [`Cursor::text`] reads it back.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => quoted.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
