//! The one table of diagnostic codes. A code never changes its meaning; a retired one is not used again.

use super::Severity;
use std::fmt;

macro_rules! codes {
    ($($code:ident = $title:literal,)*) => {
        /// Which kind of mistake.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Code {
            $(#[doc = $title] $code,)*
        }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Code] = &[$(Code::$code),*];

            /// As it is shown: `E0101`.
            pub fn name(self) -> &'static str {
                match self { $(Code::$code => stringify!($code)),* }
            }

            /// What it is about, in a few words.
            pub fn title(self) -> &'static str {
                match self { $(Code::$code => $title),* }
            }
        }
    };
}

codes! {
    E0101 = "a character that begins no token",
    E0102 = "something else was expected here",
    E0103 = "a bracket or brace is not closed",
    E0104 = "a string is not closed, or has an unknown escape",
    E0105 = "a number that cannot be read",
    E0106 = "nested too deeply",
    E0107 = "a statement that does not belong here",
    E0201 = "an unknown name",
    E0202 = "a name declared twice",
    E0203 = "a name that is not bound on the path taken",
    E0204 = "wrong arguments",
    E0205 = "a file that `use` names cannot be read",
    E0206 = "this cannot be called",
    E0301 = "operands do not fit the operation",
    E0302 = "the result is not what the signature promises",
    E0303 = "an argument does not fit its parameter",
    E0304 = "dtypes differ",
    E0305 = "shapes cannot be broadcast",
    E0306 = "a dim cannot be solved",
    E0307 = "a wrong index",
    E0308 = "not known at compile time",
    E0309 = "a dim below 1, or a window that does not fit",
    E0310 = "a type that does not exist",
    E0311 = "this kind of value does not fit here",
    E0312 = "a carried value that changes its type",
    E0401 = "parameters, state or models where they cannot be",
    E0402 = "a model that uses itself",
    E0403 = "a path declared twice",
    E0404 = "uses of a shared layer do not agree",
    E0405 = "no state of that name",
    E0406 = "too much work at compile time",
    E0407 = "nothing is returned",
    E0501 = "an unknown data setting or source",
    E0502 = "a data block that is not complete",
    E0601 = "an unknown recipe setting",
    E0602 = "a recipe that is not complete",
    E0603 = "the loss does not depend on what is minimised over",
    E0604 = "an unused value in `data` or `train`",
    E0701 = "not supported yet",
    E0801 = "weights that cannot be loaded, or do not fit",
    E0802 = "a rule of `names` that cannot be read",
    W0001 = "an unused value",
    W0002 = "an unused parameter or argument",
    W0003 = "a parameter that no `minimize` reaches",
    W0005 = "a rule of `names` that fits nothing",
}

impl Code {
    /// How bad it is.
    pub fn severity(self) -> Severity {
        if self.name().starts_with('W') { Severity::Warning } else { Severity::Error }
    }

    /// Whether the size of a dim may be why: shapes, indices, and what they fit.
    pub fn is_about_sizes(self) -> bool {
        self.name().starts_with("E03")
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
