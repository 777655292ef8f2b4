//! Other schedules of a product that give the same bits, and which of them was found to be the fastest.
//!
//! The register tile and the blocks of a product are chosen by pure costs of its shape (`matmul_shape`,
//! `conv_last_shape`, [`super::matmul::tile`]). Whatever they are, the terms of each sum come in the order of k, so any
//! other choice that these modules rank gives the same results. A [`Tuning`] names choices by the product's
//! [key](Alternatives::key); one that is not among those that are ranked for its key is passed over, so what a tuning
//! says, and whoever wrote it, never changes a bit.

use super::matmul::tile::Tile;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The most choices that are ranked for a product.
pub const RANKED: usize = 8;
/// The most register tiles among them.
const TILES: usize = 4;
/// The most ways to cut tasks for the first tile.
const CUTS: usize = 4;

/// A schedule of a product. Displays as `14x2 tile, 3 x 5 blocks`; that text is parsed, too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Choice {
    /// Rows of the register tile.
    pub tile_rows: usize,
    /// Vectors of a row of it.
    pub tile_vectors: usize,
    /// Tiles of rows, or lines of windows, of a task.
    pub rows: usize,
    /// Panels, or units of panels, of columns of a task.
    pub columns: usize,
}

impl Choice {
    /// Whether it is one with that tile.
    pub(super) fn is_of(&self, tile: &Tile) -> bool {
        (self.tile_rows, self.tile_vectors) == (tile.rows, tile.vectors)
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{} tile, {} x {} blocks", self.tile_rows, self.tile_vectors, self.rows, self.columns)
    }
}

impl FromStr for Choice {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let numbers: Vec<usize> =
            text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
        let &[tile_rows, tile_vectors, rows, columns] = &numbers[..] else { return Err(()) };
        let choice = Self { tile_rows, tile_vectors, rows, columns };
        if choice.to_string() == text { Ok(choice) } else { Err(()) }
    }
}

/// The schedules of a product that are worth a measurement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alternatives {
    /// What is multiplied: everything that the ranking depends on.
    pub key: String,
    /// The first is what is taken without tuning.
    pub ranked: Vec<Choice>,
    /// The one that was taken, as a place in `ranked`.
    pub taken: usize,
}

/// Choices by keys.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Tuning {
    choices: BTreeMap<String, Choice>,
}

impl Tuning {
    /// Takes a choice for a key, instead of the one that it had.
    pub fn set(&mut self, key: &str, choice: Choice) {
        self.choices.insert(key.to_owned(), choice);
    }

    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        self.choices.is_empty()
    }

    /// The alternatives under a key with the one that is asked for taken.
    pub(super) fn take(&self, key: String, ranked: Vec<Choice>) -> Alternatives {
        let asked = self.choices.get(&key).and_then(|choice| ranked.iter().position(|other| other == choice));
        Alternatives { key, ranked, taken: asked.unwrap_or(0) }
    }
}

/// Choices from tiles, best first, and from the ways to cut tasks of each, best first: the best of all, then in turn
/// the next way to cut for the best tile and the best way for the next tile.
pub(super) fn ranked(tiles: &[Tile], cuts: impl Fn(Tile) -> Vec<(usize, usize)>) -> Vec<Choice> {
    let choice =
        |tile: Tile, (rows, columns)| Choice { tile_rows: tile.rows, tile_vectors: tile.vectors, rows, columns };
    let Some((&first, others)) = tiles.split_first() else { return vec![] };
    let mut of_first = cuts(first).into_iter().take(CUTS).map(|cut| choice(first, cut));
    let mut of_others =
        others.iter().take(TILES - 1).filter_map(|&tile| cuts(tile).first().map(|&cut| choice(tile, cut)));
    let mut ranked: Vec<Choice> = of_first.next().into_iter().collect();
    for _ in 0..RANKED {
        ranked.extend(of_first.next().into_iter().chain(of_others.next()));
    }
    ranked.truncate(RANKED);
    ranked
}

/// The first few tiles that differ in their sizes.
pub(super) fn distinct(tiles: impl Iterator<Item = Tile>) -> Vec<Tile> {
    let mut found: Vec<Tile> = Vec::new();
    for tile in tiles {
        if found.len() < TILES && !found.iter().any(|other| (other.rows, other.vectors) == (tile.rows, tile.vectors)) {
            found.push(tile);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_as_it_is_printed() {
        let choice = Choice { tile_rows: 14, tile_vectors: 2, rows: 3, columns: 5 };
        assert_eq!(choice.to_string().parse(), Ok(choice));
        for text in [
            "",
            "14x2 tile, 3 x 5",
            "14x2 tile, 3 x 5 blocks ",
            "14 2 3 5",
            "99999999999999999999999x2 tile, 3 x 5 blocks",
        ] {
            assert_eq!(text.parse::<Choice>(), Err(()), "{text}");
        }
    }

    #[test]
    fn what_is_not_ranked_is_not_taken() {
        let choice = |rows| Choice { tile_rows: 1, tile_vectors: 1, rows, columns: 1 };
        let mut tuning = Tuning::default();
        tuning.set("a", choice(2));
        tuning.set("b", choice(9));
        let ranked = vec![choice(1), choice(2)];
        assert_eq!(tuning.take("a".to_owned(), ranked.clone()).taken, 1);
        assert_eq!(tuning.take("b".to_owned(), ranked.clone()).taken, 0);
        assert_eq!(tuning.take("c".to_owned(), ranked).taken, 0);
    }
}
