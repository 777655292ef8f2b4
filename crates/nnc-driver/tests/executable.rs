//! Built executables, end to end: packed from a few bytes of hand-assembled code, started with an
//! empty environment.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use nnc_data::{DType, FieldType, write_npy};
use nnc_driver::executable::{self, ExecutableError};
use nnc_runtime::cpu::Isa;
use nnc_stub::manifest::{External, Manifest, Port, Reading, Role, Variant};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::TempDir;

/// Rows per call.
const BATCH: usize = 2;
/// Elements per row.
const WIDTH: usize = 4;

/// Adds the weights (one row, external 1) to each row of the input (external 0) into external 2.
///
/// ```text
/// 0:  int3                        ; so that the entry is not at 0
/// 1:  mov  rax, [rdi+8]           ; Context::buffers
/// 5:  mov  rcx, [rax+8]           ; input
/// 9:  mov  rdx, [rax+16]          ; weights
/// d:  mov  rsi, [rax+24]          ; answer
/// 11: movaps xmm0, [rdx]
/// 14: movaps xmm1, [rcx]
/// 17: addps  xmm1, xmm0
/// 1a: movaps [rsi], xmm1
/// 1d: movaps xmm1, [rcx+16]
/// 21: addps  xmm1, xmm0
/// 24: movaps [rsi+16], xmm1
/// 28: ret
/// ```
const CODE: &[u8] = &[
    0xcc, 0x48, 0x8b, 0x47, 0x08, 0x48, 0x8b, 0x48, 0x08, 0x48, 0x8b, 0x50, 0x10, 0x48, 0x8b, 0x70, 0x18, 0x0f, 0x28,
    0x02, 0x0f, 0x28, 0x09, 0x0f, 0x58, 0xc8, 0x0f, 0x29, 0x0e, 0x0f, 0x28, 0x49, 0x10, 0x0f, 0x58, 0xc8, 0x0f, 0x29,
    0x4e, 0x10, 0xc3,
];

/// Held while an executable is written and while a process is started. The tests are threads of one process: what one
/// has open for writing, a child that another forks would keep open until it runs its program, and Linux refuses to
/// run a file that is open for writing (`ETXTBSY`).
fn no_fork_while_writing() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a process; when this returns, the child runs its own program and has nothing of this process open.
fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let _guard = no_fork_while_writing();
    command.spawn()
}

/// Puts `content` at `path`, to be run.
fn put_executable(path: &Path, content: &[u8]) {
    let _guard = no_fork_while_writing();
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn manifest(reading: Reading) -> Manifest {
    let port = |name: &str, reading| Port {
        name: name.into(),
        row: FieldType::new(DType::F32, [WIDTH]),
        batched: true,
        reading,
        default: Vec::new(),
        bound: None,
    };
    let (row, whole) = (WIDTH * 4, BATCH * WIDTH * 4);
    Manifest {
        program: "AddWeights".into(),
        source: "add.nn".into(),
        version: "0.1.0".into(),
        weights_hash: "0123456789abcdef0123".into(),
        variants: vec![Variant { isa: String::new(), arena_bytes: 0, arena_align: 64, scratch_bytes: 0, entry: 1 }],
        batch: BATCH,
        inputs: vec![port("x", Reading::Values)],
        answers: vec![port("y", reading)],
        mixed: Vec::new(),
        fixed: Vec::new(),
        classes: ["ant", "bee", "cat", "dog"].map(String::from).to_vec(),
        vocabularies: Vec::new(),
        externals: vec![
            External { bytes: whole, role: Role::Input(0) },
            External { bytes: row, role: Role::Weights(64) },
            External { bytes: whole, role: Role::Answer(0) },
        ],
    }
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn weights() -> Vec<u8> {
    [vec![0xff; 64], little_endian(&[0.0, 0.25, 0.5, 1.0])].concat()
}

struct Built {
    folder: TempDir,
    path: PathBuf,
}

impl Built {
    fn new(reading: Reading) -> Self {
        Self::from_parts(&manifest(reading), CODE)
    }

    fn from_parts(manifest: &Manifest, code: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("add");
        let guard = no_fork_while_writing();
        executable::write(&path, manifest, code, &weights()).unwrap();
        drop(guard);
        Self { folder, path }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        spawn(&mut command).unwrap().wait_with_output().unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(args).env_clear().current_dir(self.folder.path());
        command
    }

    fn stdout(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one line that it fails with.
    fn failure(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.starts_with("error: ") && message.lines().count() == 1, "{message:?}");
        message
    }
}

#[test]
fn rows_are_looped_and_the_last_call_padded() {
    let built = Built::new(Reading::Values);
    let rows: Vec<f32> = (0..5 * 4u8).map(f32::from).collect();
    write_npy(&built.file("x.npy"), DType::F32, &[5, 4], &little_endian(&rows)).unwrap();
    assert_eq!(
        built.stdout(&["x.npy"]),
        "y: f32[5, 4]\n  0: [0, 1.25, 2.5, 4]\n  1: [4, 5.25, 6.5, 8]\n  2: [8, 9.25, 10.5, 12]\n  \
         3: [12, 13.25, 14.5, 16]\n  4: [16, 17.25, 18.5, 20]\n"
    );
    assert_eq!(built.stdout(&["x.npy", "-o", "y.npy"]), "wrote y.npy: f32[5, 4]\n");
    let expected: Vec<f32> =
        rows.chunks(4).flat_map(|row| [row[0], row[1] + 0.25, row[2] + 0.5, row[3] + 1.0]).collect();
    let written = fs::read(built.file("y.npy")).unwrap();
    assert!(written.ends_with(&little_endian(&expected)));
    assert_eq!(built.stdout(&["--threads", "1", "x.npy"]), built.stdout(&["-i", "x=x.npy"]));
}

#[test]
fn classes_are_printed_as_bars_and_as_json() {
    let built = Built::new(Reading::Probabilities);
    fs::write(built.file("x.csv"), "0,0,0,-0.25\n").unwrap();
    let text = built.stdout(&["x.csv", "--top", "2"]);
    assert!(text.starts_with("y: dog\n  dog  █████"), "{text}");
    assert!(text.contains("cat") && text.contains("50.00 %") && !text.contains("bee"), "{text}");
    assert_eq!(
        built.stdout(&["x.csv", "--json", "--top=1"]),
        "{\"program\":\"AddWeights\",\"rows\":1,\"answers\":{\"y\":{\"dtype\":\"f32\",\"shape\":[1,4],\
         \"values\":[[0,0.25,0.5,0.75]],\"top\":[[{\"class\":\"dog\",\"index\":3,\"probability\":0.75}]]}}}\n"
    );
}

#[test]
fn reads_standard_input_and_several_files() {
    let built = Built::new(Reading::Values);
    fs::write(built.file("one.csv"), "1,1,1,1\n").unwrap();
    let mut command = built.command(&["one.csv", "-"]);
    let mut child = spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped())).unwrap();
    child.stdin.take().unwrap().write_all(b"2,2,2,2\n3,3,3,3\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "y: f32[3, 4]\n  0: [1, 1.25, 1.5, 2]\n  1: [2, 2.25, 2.5, 3]\n  2: [3, 3.25, 3.5, 4]\n");
}

#[test]
fn several_inputs_are_named_and_one_may_be_for_all_rows() {
    let mut manifest = manifest(Reading::Values);
    manifest.inputs.push(Port { name: "w".into(), batched: false, ..manifest.inputs[0].clone() });
    manifest.externals[1].role = Role::Input(1);
    let built = Built::from_parts(&manifest, CODE);
    fs::write(built.file("x.csv"), "1,1,1,1\n2,2,2,2\n3,3,3,3\n").unwrap();
    fs::write(built.file("w.csv"), "0,0,0,10\n").unwrap();
    assert_eq!(
        built.stdout(&["-i", "w=w.csv", "-i", "x=x.csv"]),
        "y: f32[3, 4]\n  0: [1, 1, 1, 11]\n  1: [2, 2, 2, 12]\n  2: [3, 3, 3, 13]\n"
    );
    assert!(built.failure(&["x.csv"]).contains("`x`, `w`"));
    assert!(built.failure(&["-i", "x=x.csv"]).contains("input `w`"));
    assert!(built.failure(&["-i", "x=x.csv", "-i", "w=x.csv"]).contains("`w` is one array, not 3"));
    assert!(built.stdout(&["--help"]).contains("  w: f32[4]\n"));
}

#[test]
fn an_answer_about_all_rows_needs_all_of_them() {
    let mut manifest = manifest(Reading::Values);
    manifest.answers[0].batched = false;
    manifest.answers[0].row.dims = vec![BATCH, WIDTH];
    let built = Built::from_parts(&manifest, CODE);
    fs::write(built.file("two.csv"), "1,1,1,1\n2,2,2,2\n").unwrap();
    fs::write(built.file("one.csv"), "1,1,1,1\n").unwrap();
    assert_eq!(built.stdout(&["two.csv"]), "y: [[1, 1.25, 1.5, 2], [2, 2.25, 2.5, 3]]\n");
    assert!(built.failure(&["one.csv"]).contains("exactly 2, not 1"));
}

/// ```text
/// mov rax, [rdi+8]           ; Context::buffers
/// mov rcx, [rax+32]          ; status, external 3
/// mov dword ptr [rcx], 1
/// ret
/// ```
const FAILS: &[u8] = &[0xcc, 0x48, 0x8b, 0x47, 0x08, 0x48, 0x8b, 0x48, 0x20, 0xc7, 0x01, 0x01, 0x00, 0x00, 0x00, 0xc3];

#[test]
fn an_index_out_of_range_is_an_error() {
    let mut manifest = manifest(Reading::Values);
    manifest.externals.push(External { bytes: 16, role: Role::Status });
    let built = Built::from_parts(&manifest, FAILS);
    fs::write(built.file("x.csv"), "1,1,1,1\n").unwrap();
    assert!(built.failure(&["x.csv"]).contains("index"));
}

/// Whatever this machine is: a program for a set that it has runs, and one for a set that it lacks says in a line what
/// is missing, and what to build it for.
#[test]
fn an_incomplete_processor_is_told_so() {
    for isa in Isa::ALL {
        let mut manifest = manifest(Reading::Values);
        manifest.variants[0].isa = isa.name().into();
        let built = Built::from_parts(&manifest, CODE);
        fs::write(built.file("x.csv"), "1,1,1,1\n").unwrap();
        let Some(lacks) = isa.missing().first().copied() else {
            assert!(built.stdout(&["x.csv"]).starts_with("y: "));
            continue;
        };
        let said = built.failure(&["x.csv"]);
        let advice = Isa::host().map(|best| format!("; build it with `--isa {},{}`", isa.name(), best.name()));
        let wanted = format!("built for processors with {}; this one lacks {lacks}", isa.name());
        assert!(said.contains(&wanted) && said.trim_end().ends_with(&advice.unwrap_or_default()), "{said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    }
}

/// Of several variants the first that the processor has is run: here the second, whose entry is another.
#[test]
fn the_first_variant_that_fits_is_run() {
    let mut manifest = manifest(Reading::Values);
    let any = manifest.variants[0].clone();
    let code = [FAILS, &vec![0; 64 - FAILS.len() % 64], CODE].concat();
    let behind = code.len() - CODE.len() + any.entry;
    let (wide, base) = (Variant { isa: "avx512".into(), ..any.clone() }, Variant { entry: behind, ..any });
    manifest.externals.push(External { bytes: 16, role: Role::Status });
    manifest.variants = vec![wide, base];
    let built = Built::from_parts(&manifest, &code);
    fs::write(built.file("x.csv"), "1,1,1,1\n").unwrap();
    match Isa::Avx512.missing().is_empty() {
        true => assert!(built.failure(&["x.csv"]).contains("index")),
        false => assert!(built.stdout(&["x.csv"]).starts_with("y: ")),
    }
}

#[test]
fn tells_what_it_is() {
    let built = Built::new(Reading::Logits);
    let help = built.stdout(&["--help"]);
    for part in ["AddWeights, compiled from add.nn by nnc 0.1.0", "x: f32[N, 4]", "y: f32[N, 4]", "ant, bee, cat"] {
        assert!(help.contains(part), "{part:?} is missing in:\n{help}");
    }
    assert_eq!(
        built.stdout(&["--version"]),
        "AddWeights, compiled from add.nn by nnc 0.1.0, weights 0123456789abcdef\n"
    );
}

/// The dynamic linker can be told to run a program; then `/proc/self/exe` is the linker.
#[test]
fn runs_under_the_dynamic_linker() {
    let linker = Path::new("/lib64/ld-linux-x86-64.so.2");
    let built = Built::new(Reading::Values);
    let mut command = Command::new(linker);
    command.arg(&built.path).arg("--version").env_clear().stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Ok(child) = spawn(&mut command) {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn measures_itself() {
    let built = Built::new(Reading::Values);
    assert!(built.stdout(&["--bench", "0.01"]).contains("median"));
    assert!(built.stdout(&["--bench=0.01", "--json"]).starts_with("{\"calls\":"));
}

#[test]
fn bad_input_gets_one_line() {
    let built = Built::new(Reading::Values);
    fs::write(built.file("bad.csv"), "1,2,3,4\n1,2,three,4\n").unwrap();
    fs::write(built.file("empty"), "").unwrap();
    fs::write(built.file("ok.csv"), "1,2,3,4\n").unwrap();
    write_npy(&built.file("wide.npy"), DType::F32, &[1, 5], &little_endian(&[0.0; 5])).unwrap();
    write_npy(&built.file("f64.npy"), DType::F64, &[4], &[0; 32]).unwrap();
    let npy = fs::read(built.file("wide.npy")).unwrap();
    fs::write(built.file("cut.npy"), &npy[..npy.len() - 1]).unwrap();
    for (args, part) in [
        (&[][..], "input `x`"),
        (&["none.npy"], "none.npy"),
        (&["bad.csv"], "line 2"),
        (&["empty"], "empty"),
        (&["wide.npy"], "shape"),
        (&["f64.npy"], "f64"),
        (&["cut.npy"], "cut.npy"),
        (&["."], "."),
        (&["add"], "add"),
        (&["ok.csv", "--no-such-option"], "--no-such-option"),
        (&["--input", "z=ok.csv"], "only `x`"),
        (&["ok.csv", "-o", "none/y.npy"], "none/y.npy"),
        (&["ok.csv", "-o", "z=y.npy"], "only `y`"),
        (&["ok.csv", "--threads", "0"], "0"),
    ] {
        let message = built.failure(args);
        assert!(message.contains(part), "{args:?} gave {message:?}");
    }
}

#[test]
fn an_answer_is_not_written_over_what_it_is_made_from() {
    let built = Built::new(Reading::Values);
    let npy = |name: &str| write_npy(&built.file(name), DType::F32, &[1, 4], &little_endian(&[1.0; 4])).unwrap();
    npy("x.npy");
    fs::hard_link(built.file("x.npy"), built.file("same.npy")).unwrap();
    let before = fs::read(built.file("x.npy")).unwrap();
    for output in ["x.npy", "./x.npy", "y=same.npy", "add"] {
        let message = built.failure(&["x.npy", "-o", output]);
        assert!(message.contains("is an input"), "{output}: {message}");
    }
    assert_eq!(fs::read(built.file("x.npy")).unwrap(), before);
}

#[test]
fn a_full_disk_is_one_line() {
    let built = Built::new(Reading::Values);
    fs::write(built.file("x.csv"), "1,1,1,1\n").unwrap();
    for args in [&["x.csv"][..], &["x.csv", "--json"], &["--help"], &["--version"], &["--bench=0.01"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let child = spawn(built.command(args).stdout(full).stderr(Stdio::piped())).unwrap();
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(message.contains("No space left") && message.lines().count() == 1, "{args:?}: {message}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let built = Built::new(Reading::Values);
    let rows = "1,2,3,4\n".repeat(20_000);
    fs::write(built.file("x.csv"), rows).unwrap();
    let mut child = spawn(built.command(&["x.csv"]).stdout(Stdio::piped()).stderr(Stdio::piped())).unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
}

#[test]
fn a_cut_or_bare_executable_says_so() {
    let built = Built::new(Reading::Values);
    let whole = fs::read(&built.path).unwrap();
    let pages = whole.len() / 4096;
    for kept in [whole.len() - 1, (pages - 1) * 4096, (pages - 2) * 4096 + 10] {
        put_executable(&built.path, &whole[..kept]);
        assert!(built.failure(&["--help"]).contains("damaged: the file is cut short"), "{kept} bytes");
    }
    put_executable(&built.path, executable::stub());
    assert!(built.failure(&[]).contains("no program is packed into it"));
}

#[test]
fn the_file_is_small_executable_and_the_same_each_time() {
    let (first, second) = (Built::new(Reading::Values), Built::new(Reading::Values));
    let bytes = fs::read(&first.path).unwrap();
    assert_eq!(bytes, fs::read(&second.path).unwrap());
    assert!(bytes.len() < 1_000_000, "{} bytes", bytes.len());
    assert_eq!(fs::metadata(&first.path).unwrap().permissions().mode() & 0o700, 0o700);
    assert_eq!(fs::read_dir(first.folder.path()).unwrap().count(), 1);
}

#[test]
fn nothing_is_left_when_it_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &Path| executable::write(path, &manifest(Reading::Values), CODE, &weights());
    assert!(matches!(write(&folder.path().join("none").join("x")), Err(ExecutableError::Write { .. })));
    assert!(matches!(write(folder.path()), Err(ExecutableError::NotAFile { .. })));
    let mut wrong = manifest(Reading::Values);
    wrong.variants[0].entry = CODE.len();
    let refused = executable::write(&folder.path().join("x"), &wrong, CODE, &weights());
    assert!(matches!(refused, Err(ExecutableError::Manifest(_))));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
