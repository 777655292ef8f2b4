//! The files of a program and the names they declare.
//!
//! Module 0 is the user's file, or the standard library when that is checked by itself. A body sees the names of its
//! own file, then of the files it uses, then of the standard library, then the primitives; a library body never sees
//! the user's names. A file that is used twice is loaded once.

use super::given::Given;
use crate::diagnostic::{Code, Diagnostic, FileId, Severity, Sources, Span};
use crate::syntax::ast::{self, ItemKind};
use crate::syntax::parse_here;
use std::collections::{BTreeMap, BTreeSet};

/// What the paths of the library's files begin with; no path that a loader is asked for does.
const LIBRARY: &str = "\0";

/// One file of a program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ModuleId(pub usize);

/// One item of a program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ItemId {
    /// Its file.
    pub module: ModuleId,
    /// Its position there.
    pub index: usize,
}

/// One file, parsed.
#[derive(Debug)]
pub struct Module {
    /// Its text in [`Program::sources`].
    pub file: FileId,
    /// Its path as seen from the folder of the first file.
    path: String,
    /// Its tree.
    pub ast: ast::Module,
    /// Whether it belongs to the standard library.
    pub library: bool,
    /// Functions by name.
    functions: BTreeMap<String, ItemId>,
    /// `data` and `train` blocks by name.
    blocks: BTreeMap<String, ItemId>,
    /// Files it uses.
    uses: Vec<ModuleId>,
}

/// The files of a program.
#[derive(Debug, Default)]
pub struct Program {
    /// Their texts.
    pub sources: Sources,
    /// The user's files first, then the library's.
    pub modules: Vec<Module>,
    /// What is given beside them.
    pub given: Given,
    by_file: BTreeMap<FileId, ModuleId>,
    broken: BTreeSet<ItemId>,
    by_identity: BTreeMap<String, ModuleId>,
    library: BTreeMap<String, ItemId>,
}

impl Program {
    /// Parses `text`, everything it uses, and the standard library, on a stack that is large enough for it.
    pub fn load(name: &str, text: &str, loader: &dyn super::Loader) -> (Self, Vec<Diagnostic>) {
        let mut program = Self::default();
        let mut diagnostics = Vec::new();
        program.add("", name, text, &mut diagnostics);
        let mut next = 0;
        while next < program.modules.len() {
            program.load_uses(ModuleId(next), loader, &mut diagnostics);
            next += 1;
        }
        program.add_library(&mut diagnostics);
        for at in 0..program.modules.len() {
            program.check_clashes(ModuleId(at), &mut diagnostics);
        }
        (program, diagnostics)
    }

    fn add_library(&mut self, diagnostics: &mut Vec<Diagnostic>) {
        for (name, text) in crate::library::FILES {
            let id = self.add(&format!("{LIBRARY}{name}"), name, text, diagnostics);
            let functions = self.modules[id.0].functions.clone();
            self.library.extend(functions);
        }
    }

    /// Adds a file: `path` is what a loader knows it by, `name` what the user does.
    fn add(&mut self, path: &str, name: &str, text: &str, diagnostics: &mut Vec<Diagnostic>) -> ModuleId {
        let library = path.starts_with(LIBRARY);
        let id = ModuleId(self.modules.len());
        let file = self.sources.add(name, text);
        let (ast, mut found) = parse_here(file, text);
        let (mut functions, mut blocks) = (BTreeMap::new(), BTreeMap::new());
        let mut seen: BTreeMap<String, Span> = BTreeMap::new();
        for (index, item) in ast.items.iter().enumerate() {
            let item_id = ItemId { module: id, index };
            let (declared, table) = match &item.kind {
                ItemKind::Use(_) => continue,
                ItemKind::Function(function) => (&function.name, &mut functions),
                ItemKind::Data(data) => (&data.name, &mut blocks),
                // Several recipes of one model are told apart by their data.
                ItemKind::Train(train) => {
                    blocks.entry(format!("train {}", train.name.text)).or_insert(item_id);
                    continue;
                }
            };
            if let Some(before) = seen.insert(declared.text.clone(), declared.span) {
                diagnostics.push(declared_twice(&declared.text, declared.span, before));
                continue;
            }
            table.insert(declared.text.clone(), item_id);
        }
        for (index, item) in ast.items.iter().enumerate() {
            let is_inside = |found: &Diagnostic| {
                let at = found.primary.span;
                found.severity() == Severity::Error && at.start >= item.span.start && at.start <= item.span.end
            };
            if found.iter().any(is_inside) {
                self.broken.insert(ItemId { module: id, index });
            }
        }
        diagnostics.append(&mut found);
        self.modules.push(Module { file, path: path.to_owned(), ast, library, functions, blocks, uses: Vec::new() });
        self.by_file.insert(file, id);
        id
    }

    fn load_uses(&mut self, id: ModuleId, loader: &dyn super::Loader, diagnostics: &mut Vec<Diagnostic>) {
        let wanted: Vec<ast::UseItem> = self.modules[id.0]
            .ast
            .items
            .iter()
            .filter_map(|item| if let ItemKind::Use(used) = &item.kind { Some(used.clone()) } else { None })
            .collect();
        for used in wanted {
            if used.path.trim().is_empty() {
                let diagnostic = Diagnostic::new(Code::E0205, used.span, "this names no file");
                diagnostics.push(diagnostic.help("write `use \"blocks.nn\"`"));
                continue;
            }
            let path = beside(&self.modules[id.0].path, &used.path);
            let identity = loader.identity(&path);
            let target = match self.by_identity.get(&identity) {
                Some(&known) => known,
                None => match loader.load(&path) {
                    Ok(text) => {
                        let name = beside(self.sources.name(self.modules[0].file), &path);
                        let added = self.add(&path, &name, &text, diagnostics);
                        self.by_identity.insert(identity, added);
                        added
                    }
                    Err(reason) => {
                        let message = format!("cannot use \"{}\": {reason}", used.path);
                        diagnostics.push(Diagnostic::new(Code::E0205, used.span, message));
                        continue;
                    }
                },
            };
            if target == id {
                diagnostics.push(Diagnostic::new(Code::E0205, used.span, "a file cannot use itself"));
            } else if !self.modules[id.0].uses.contains(&target) {
                self.modules[id.0].uses.push(target);
            }
        }
    }

    /// Two used files must not bring in one name.
    fn check_clashes(&self, id: ModuleId, diagnostics: &mut Vec<Diagnostic>) {
        let mut seen: BTreeMap<&str, ItemId> = BTreeMap::new();
        for used in &self.modules[id.0].uses {
            for (name, &item) in &self.modules[used.0].functions {
                let own = self.modules[id.0].functions.contains_key(name);
                if let Some(&before) = seen.get(name.as_str()).filter(|_| !own) {
                    let message = format!("`{name}` is in two of the files that are used");
                    let (Some(here), Some(there)) = (self.function(item), self.function(before)) else { continue };
                    diagnostics
                        .push(Diagnostic::new(Code::E0202, here.name.span, message).with(there.name.span, "and here"));
                }
                seen.insert(name, item);
            }
        }
    }

    /// The function that an item is.
    pub fn function(&self, id: ItemId) -> Option<&ast::Function> {
        match &self.modules[id.module.0].ast.items[id.index].kind {
            ItemKind::Function(function) => Some(function),
            ItemKind::Use(_) | ItemKind::Data(_) | ItemKind::Train(_) => None,
        }
    }

    /// The function called `name` as a body of `from` sees it.
    pub fn find_function(&self, from: ModuleId, name: &str) -> Option<ItemId> {
        let module = &self.modules[from.0];
        let used = || module.uses.iter().find_map(|used| self.modules[used.0].functions.get(name));
        module.functions.get(name).or_else(used).or_else(|| self.library.get(name)).copied()
    }

    /// Whether the user's own file has a recipe.
    pub fn has_recipes(&self) -> bool {
        self.modules
            .first()
            .is_some_and(|module| module.ast.items.iter().any(|item| matches!(item.kind, ItemKind::Train(_))))
    }

    /// The `data` block called `name` as `from` sees it.
    pub fn find_data(&self, from: ModuleId, name: &str) -> Option<(ItemId, &ast::Data)> {
        let module = &self.modules[from.0];
        let used = || module.uses.iter().find_map(|used| self.modules[used.0].blocks.get(name));
        let id = *module.blocks.get(name).or_else(used)?;
        match &self.modules[id.module.0].ast.items[id.index].kind {
            ItemKind::Data(data) => Some((id, data)),
            ItemKind::Use(_) | ItemKind::Function(_) | ItemKind::Train(_) => None,
        }
    }

    /// Every function name that a body of `from` sees, for suggestions.
    pub fn function_names(&self, from: ModuleId) -> BTreeSet<&str> {
        let module = &self.modules[from.0];
        let used = module.uses.iter().flat_map(|used| self.modules[used.0].functions.keys());
        module.functions.keys().chain(used).chain(self.library.keys()).map(String::as_str).collect()
    }

    /// Every item of the user's own files, in order.
    pub fn user_items(&self) -> impl Iterator<Item = (ItemId, &ast::Item)> {
        self.modules.iter().enumerate().filter(|(_, module)| !module.library).flat_map(|(at, module)| {
            let id = move |index| ItemId { module: ModuleId(at), index };
            module.ast.items.iter().enumerate().map(move |(index, item)| (id(index), item))
        })
    }

    /// The paths of the files that the first one uses, as a loader knows them.
    pub fn used_files(&self) -> impl Iterator<Item = &str> {
        self.modules.iter().skip(1).filter(|module| !module.library).map(|module| module.path.as_str())
    }

    /// The files that layers of the user's own files begin with.
    pub fn weight_files(&self) -> impl Iterator<Item = &str> {
        let own = self.modules.iter().filter(|module| !module.library);
        own.flat_map(|module| module.ast.weight_files.iter().map(String::as_str))
    }

    /// Every item of the standard library, in order.
    pub fn library_items(&self) -> impl Iterator<Item = (ItemId, &ast::Item)> {
        self.modules.iter().enumerate().filter(|(_, module)| module.library).flat_map(|(at, module)| {
            let id = move |index| ItemId { module: ModuleId(at), index };
            module.ast.items.iter().enumerate().map(move |(index, item)| (id(index), item))
        })
    }

    /// Whether a place is in the standard library.
    pub fn is_library(&self, span: Span) -> bool {
        self.by_file.get(&span.file).is_some_and(|id| self.modules[id.0].library)
    }

    /// `file:line` of a place.
    pub fn place(&self, span: Span) -> String {
        format!("{}:{}", self.sources.name(span.file), self.sources.locate(span).line)
    }

    /// Whether the syntax of an item has errors: its body is not looked at then.
    pub fn is_broken(&self, id: ItemId) -> bool {
        self.broken.contains(&id)
    }

    /// All of an item.
    pub fn item_span(&self, id: ItemId) -> Span {
        self.modules[id.module.0].ast.items[id.index].span
    }

    /// The text of a place.
    pub fn text(&self, span: Span) -> &str {
        self.sources.slice(span)
    }
}

fn declared_twice(name: &str, span: Span, before: Span) -> Diagnostic {
    Diagnostic::new(Code::E0202, span, format!("`{name}` is declared twice")).with(before, "first here")
}

/// `path` as seen from the file `from`: beside it, unless it is absolute.
fn beside(from: &str, path: &str) -> String {
    match from.rfind('/') {
        Some(slash) if !path.starts_with('/') => format!("{}/{path}", &from[..slash]),
        _ => path.to_owned(),
    }
}
