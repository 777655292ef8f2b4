//! Answers as JSON (RFC 8259), on one line: numbers as short as reads back the same bits.
//!
//! ```json
//! {"program":"Digits","rows":1,"answers":{"digit":{"dtype":"f32","shape":[1,2],
//!  "values":[[-1.5,3]],"top":[[{"class":"1","index":1,"probability":0.989}]]}}}
//! ```
//! `text` is there for texts only: one for each vector along the last dim.
//! `top` is there for classifiers only: for each vector along the last dim its most probable
//! classes. Written by hand, since a general serializer would weigh more than the rest of a small
//! executable.

use crate::number::Number;
use crate::present::{Answer, Names, class_name};
use std::io::{self, Write};

/// Writes all answers as one object and a line end.
///
/// # Errors
/// Those of `to`.
pub fn write_json(
    to: &mut dyn Write,
    program: &str,
    answers: &[Answer],
    names: Names<'_>,
    top: usize,
) -> io::Result<()> {
    let rows = answers.iter().filter(|answer| answer.port.batched).map(|answer| answer.rows).max();
    write!(to, "{{\"program\":{},\"rows\":{},\"answers\":{{", quoted(program), rows.unwrap_or(1))?;
    for (index, answer) in answers.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(to, "{comma}{}:", quoted(&answer.port.name))?;
        write_answer(to, answer, names, top)?;
    }
    writeln!(to, "}}}}")
}

fn write_answer(to: &mut dyn Write, answer: &Answer, names: Names<'_>, top: usize) -> io::Result<()> {
    let dims = answer.dims();
    let shape: Vec<String> = dims.iter().map(usize::to_string).collect();
    write!(to, "{{\"dtype\":\"{}\",\"shape\":[{}],\"values\":", answer.port.row.dtype, shape.join(","))?;
    let numbers: Vec<Number> = answer.numbers().collect();
    write_nested(to, &dims, &numbers)?;
    let texts: Vec<String> = answer.texts(names).iter().map(|text| quoted(text)).collect();
    if !texts.is_empty() {
        write!(to, ",\"text\":[{}]", texts.join(","))?;
    }
    let vectors = answer.ranked(top);
    if !vectors.is_empty() {
        let lists = vectors.iter().map(|vector| {
            let items = vector.iter().map(|ranked| {
                let class = quoted(&class_name(names.classes, ranked.class));
                let probability = Number::Double(ranked.probability).to_json();
                format!("{{\"class\":{class},\"index\":{},\"probability\":{probability}}}", ranked.class)
            });
            format!("[{}]", items.collect::<Vec<_>>().join(","))
        });
        write!(to, ",\"top\":[{}]", lists.collect::<Vec<_>>().join(","))?;
    }
    write!(to, "}}")
}

fn write_nested(to: &mut dyn Write, dims: &[usize], numbers: &[Number]) -> io::Result<()> {
    let [_, inner @ ..] = dims else {
        let number = numbers.first().map_or_else(|| "null".into(), |number| number.to_json());
        return to.write_all(number.as_bytes());
    };
    let size = inner.iter().product::<usize>().max(1);
    to.write_all(b"[")?;
    for (index, part) in numbers.chunks(size).enumerate() {
        to.write_all(if index == 0 { b"" } else { b"," })?;
        write_nested(to, inner, part)?;
    }
    to.write_all(b"]")
}

/// `text` as a JSON string.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            control if control < ' ' => quoted.push_str(&format!("\\u{:04x}", u32::from(control))),
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Reading;
    use crate::present::tests::answer;
    use nnc_data::Alphabet;

    #[test]
    fn writes_one_object() {
        let classes = ["a\"b".to_owned()];
        let names = Names { classes: &classes, alphabet: Alphabet::Characters(&classes), vocabularies: &[] };
        let answers = [answer(&[2], 1, Reading::Probabilities, &[0.75, 0.25])];
        let mut to = Vec::new();
        write_json(&mut to, "Net", &answers, names, 2).unwrap();
        let expected = r#"{"program":"Net","rows":1,"answers":{"y":{"dtype":"f32","shape":[1,2],"values":[[0.75,0.25]],"top":[[{"class":"a\"b","index":0,"probability":0.75},{"class":"1","index":1,"probability":0.25}]]}}}"#;
        assert_eq!(String::from_utf8(to).unwrap().trim_end(), expected);
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(quoted("a\\\n\u{1}é"), "\"a\\\\\\u000a\\u0001é\"");
    }

    #[test]
    fn what_json_lacks_is_null() {
        let mut to = Vec::new();
        let none = Names { classes: &[], alphabet: Alphabet::Characters(&[]), vocabularies: &[] };
        write_json(&mut to, "", &[answer(&[], 2, Reading::Values, &[f32::NAN, 2.0])], none, 1).unwrap();
        assert!(String::from_utf8(to).unwrap().contains("\"values\":[null,2]"));
    }
}
