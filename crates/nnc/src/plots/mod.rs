//! What a run leaves to look at: curves and confusion matrices as pictures, and an event file for TensorBoard. Also the
//! picture of a [`comparison`] of networks.
//!
//! A [`Recorder`] hears of a run as the terminal does. A plot that cannot be written does not end a training: the first
//! complaint is kept, and told at its end.

pub(crate) mod comparison;
mod curves;
mod matrix;
mod tensorboard;

use nnc_data::write_atomically;
use nnc_driver::Matrix;
use nnc_driver::train::{Event, History, Observer};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tensorboard::EventFile;

/// The picture of loss and metrics.
const CURVES: &str = "curves.svg";
/// The curves are drawn again after an epoch, but no more often than this.
const PAUSE: Duration = Duration::from_secs(1);

/// The files of a run's folder that are written here and have a fixed name.
pub(crate) fn files_of(folder: &Path) -> [PathBuf; 1] {
    [folder.join(CURVES)]
}

/// Writes curves and events of a run into its folder.
pub(crate) struct Recorder {
    folder: PathBuf,
    name: String,
    classes: Vec<String>,
    events: Option<EventFile>,
    /// What is not drawn yet.
    undrawn: Option<(History, Vec<Matrix>)>,
    drawn: Option<Instant>,
    complaint: Option<String>,
}

impl Recorder {
    /// For the run of a recipe in a folder, on data with these classes.
    pub(crate) fn new(folder: &Path, name: &str, classes: &[String]) -> Self {
        Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            classes: classes.to_vec(),
            events: None,
            undrawn: None,
            drawn: None,
            complaint: None,
        }
    }

    /// Draws what is left to draw; gives what could not be written.
    pub(crate) fn finish(mut self) -> Option<String> {
        self.draw();
        self.complaint
    }

    /// Takes back what a run that came to nothing has written.
    pub(crate) fn discard(self) {
        if let Some(events) = self.events {
            // What cannot be removed stays: the run itself has failed with a reason that matters more.
            let _ = fs::remove_file(events.path());
        }
    }

    fn begin(&mut self, history: &History) {
        let opened = EventFile::create(&self.folder).and_then(|mut file| file.history(history).map(|()| file));
        self.events = self.kept("events of TensorBoard", opened);
        if !history.rows.is_empty() {
            self.undrawn = Some((history.clone(), Vec::new()));
        }
    }

    fn draw(&mut self) {
        let Some((history, matrices)) = self.undrawn.take() else { return };
        self.write(CURVES, "curves", curves::draw(&self.name, &history));
        self.draw_matrices(&matrices, "validation");
        self.drawn = Some(Instant::now());
    }

    fn draw_matrices(&mut self, matrices: &[Matrix], split: &str) {
        for matrix in matrices {
            let drawn = matrix::draw(&format!("{}: {}, {split}", self.name, matrix.name), matrix, &self.classes);
            self.write(&format!("{}-{split}.svg", matrix.name), &matrix.name, drawn);
        }
    }

    /// Writes a picture into the folder, or keeps a complaint.
    fn write(&mut self, file: &str, what: &str, drawn: Result<String, Box<dyn Error>>) {
        let written = drawn.map_err(|error| error.to_string()).and_then(|picture| {
            let path = self.folder.join(file);
            write_atomically(&path, |to| to.write_all(picture.as_bytes())).map_err(|error| error.to_string())
        });
        if let Err(why) = written {
            self.complaint.get_or_insert(format!("no {what}: {why}"));
        }
    }

    /// What was made, or nothing and a complaint.
    fn kept<T>(&mut self, what: &str, made: std::io::Result<T>) -> Option<T> {
        made.map_err(|error| self.complaint.get_or_insert(format!("no {what} in {}: {error}", self.folder.display())))
            .ok()
    }

    fn log(&mut self, write: impl FnOnce(&mut EventFile) -> std::io::Result<()>) {
        let Some(mut events) = self.events.take() else { return };
        let written = write(&mut events).map(|()| events);
        self.events = self.kept("further events of TensorBoard", written);
    }
}

impl Observer for Recorder {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Begun { history } => self.begin(history),
            Event::Traced { point } => self.log(|file| file.point(point)),
            Event::Epoch { row, history, matrices, .. } => {
                self.log(|file| file.row(row));
                self.undrawn = Some(((*history).clone(), matrices.to_vec()));
                if self.drawn.is_none_or(|before| before.elapsed() >= PAUSE) {
                    self.draw();
                }
            }
            Event::Compiled { .. } | Event::Step { .. } | Event::StoppedEarly { .. } => {}
            Event::Tested { matrices, .. } => self.draw_matrices(matrices, "test"),
            Event::Saved { .. } | Event::Drawn { .. } => {}
        }
    }
}
