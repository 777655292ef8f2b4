//! Floats in JSON, which has none that are not finite: those are words there, `"inf"`, `"-inf"` and `"NaN"`.
//!
//! For fields that serde reads and writes `with` a module of these. A `null` in the place of a number, as files of
//! former versions have it, reads as NaN.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A float as JSON can have it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Finite(f64),
    Word(String),
    Lost(()),
}

impl From<f64> for Form {
    fn from(number: f64) -> Self {
        if number.is_finite() { Self::Finite(number) } else { Self::Word(number.to_string()) }
    }
}

impl Form {
    fn number<E: serde::de::Error>(self) -> Result<f64, E> {
        match self {
            Self::Finite(number) => Ok(number),
            Self::Word(word) => word.parse().map_err(|_| E::custom(format!("`{word}` is no number"))),
            Self::Lost(()) => Ok(f64::NAN),
        }
    }
}

type Named<T> = Vec<(String, T)>;

fn forms(numbers: &[(String, f64)]) -> Named<Form> {
    numbers.iter().map(|(name, number)| (name.clone(), Form::from(*number))).collect()
}

fn numbers<E: serde::de::Error>(forms: Named<Form>) -> Result<Named<f64>, E> {
    forms.into_iter().map(|(name, form)| Ok((name, form.number()?))).collect()
}

/// A number.
pub mod number {
    use super::{Deserialize, Deserializer, Form, Serialize, Serializer};

    pub fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        Form::from(*number).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Form::deserialize(deserializer)?.number()
    }
}

/// A number, or none.
pub mod optional {
    use super::{Deserialize, Deserializer, Form, Serialize, Serializer};

    pub fn serialize<S: Serializer>(number: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        number.map(Form::from).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Option::<Form>::deserialize(deserializer)?.map(Form::number).transpose()
    }
}

/// Numbers with names.
pub mod named {
    use super::{Deserialize, Deserializer, Form, Named, Serialize, Serializer, forms, numbers};

    pub fn serialize<S: Serializer>(named: &[(String, f64)], serializer: S) -> Result<S::Ok, S::Error> {
        forms(named).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Named<f64>, D::Error> {
        numbers(Named::<Form>::deserialize(deserializer)?)
    }
}

/// Numbers with names, or none.
pub mod optional_named {
    use super::{Deserialize, Deserializer, Form, Named, Serialize, Serializer, forms, numbers};

    pub fn serialize<S: Serializer>(named: &Option<Named<f64>>, serializer: S) -> Result<S::Ok, S::Error> {
        named.as_deref().map(forms).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Named<f64>>, D::Error> {
        Option::<Named<Form>>::deserialize(deserializer)?.map(numbers).transpose()
    }
}
