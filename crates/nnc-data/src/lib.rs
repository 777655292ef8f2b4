//! Data sources to batches: decode, split, shuffle, prefetch.
//!
//! The way of the data:
//! ```text
//! files ─ idx, csv, npy, npz, safetensors, images, text, wav ─→ Table ─ Split ─→ rows ─ epoch_order ─→ Batches
//! one input ─ Given ─→ Column                            results ─ write_npy, write_pictures ─→ file
//! ```
//! Every source is held to the declared types of its fields ([`FieldType`]) when it is opened, so
//! that nothing later meets another type. What is wrong is told as a [`DataError`]: which file,
//! where, what, and what to try.
//!
//! **Invariants**: no input makes this crate panic, and memory is taken for bytes that are there,
//! never for what a header claims. Splits and orders are the same bits in every version. The crate
//! knows nothing of graphs, and prints nothing.
//!
//! Each decoder is a cargo feature (`csv`, `gz`, `idx`, `image`, `npy`, `npz`, `safetensors`, `text`, `wav`), because a
//! built executable carries this crate and should carry no more of it than it needs. `folders` is the sources with a
//! file for each example, `merges` the learning of byte-pair tokens; to read by them takes only `text`.
#![forbid(unsafe_code)]
// A build that reads nothing is of use only to the one who lists features.
#![cfg_attr(
    not(any(feature = "idx", feature = "csv", feature = "npy", feature = "image", feature = "text")),
    allow(dead_code)
)]

mod alphabet;
mod batches;
mod content;
#[cfg(feature = "csv")]
pub mod csv;
mod error;
#[cfg(feature = "folders")]
mod examples;
#[cfg(feature = "folders")]
mod files;
mod given;
#[cfg(feature = "idx")]
pub mod idx;
#[cfg(feature = "folders")]
pub mod images;
mod input;
#[cfg(any(feature = "idx", feature = "npy"))]
mod layout;
#[cfg(feature = "text")]
pub mod lines;
#[cfg(feature = "merges")]
mod merges;
#[cfg(feature = "npy")]
pub mod npy;
#[cfg(feature = "npz")]
pub mod npz;
#[cfg(feature = "csv")]
mod number;
pub mod pattern;
#[cfg(feature = "image")]
mod picture;
#[cfg(feature = "image")]
mod pictures;
#[cfg(feature = "csv")]
mod quotes;
mod random;
#[cfg(feature = "text")]
pub mod running;
#[cfg(feature = "safetensors")]
pub mod safetensors;
#[cfg(any(feature = "image", feature = "text"))]
mod sample;
mod similar;
#[cfg(any(feature = "idx", feature = "csv", feature = "npy", feature = "image", feature = "text"))]
mod source;
mod split;
mod table;
#[cfg(feature = "text")]
pub mod text;
mod token_table;
mod types;
mod vocabulary;
#[cfg(feature = "wav")]
pub mod wav;
mod word_table;
#[cfg(any(feature = "csv", feature = "text"))]
mod words;
mod write;

pub use alphabet::Alphabet;
pub use batches::{Batch, Batches};
pub use error::{DataError, ErrorKind, Place, Result};
pub use given::Given;
pub use input::decode_input;
#[cfg(feature = "wav")]
pub use input::decode_sound_input;
#[cfg(feature = "text")]
pub use input::{decode_text_input, decode_words_input};
#[cfg(feature = "npy")]
pub use npy::{encode_npy, write_npy};
#[cfg(feature = "image")]
pub use pictures::{stage_pictures, write_pictures};
#[cfg(any(feature = "idx", feature = "csv", feature = "npy", feature = "image", feature = "text"))]
pub use source::Source;
pub use split::{Parts, Split, balanced_order, epoch_order, every_nth, hold_out, hold_out_tail};
pub use token_table::{LEAST_TOKENS, TokenTable};
pub use types::{Batching, Column, DType, FieldType, Table, UnknownDType};
pub use vocabulary::{END, MARKS, PADDING, UNKNOWN, Unit, Vocabulary};
pub use word_table::WordTable;
#[cfg(any(feature = "csv", feature = "text"))]
pub use words::WordOptions;
pub use write::{Staged, check_not_input, check_writable, remove_leftovers, write_atomically};
