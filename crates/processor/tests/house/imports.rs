//! Reads which file of a crate imports which: `use` lines and paths, re-exports followed to where a name is declared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;

/// Segments of a path from the crate's root.
type Absolute = Vec<String>;

/// A crate's source files.
#[derive(Default)]
pub(crate) struct Source {
    /// Each module's file, relative to `src/`.
    modules: BTreeMap<Absolute, String>,
    /// Names that a module passes on, and where they are.
    passed_on: BTreeMap<Absolute, BTreeMap<String, Absolute>>,
    /// What each module's file names of its own crate.
    named: BTreeSet<(String, Absolute)>,
    /// What each file names of others: the crate.
    foreign: BTreeSet<(String, String)>,
}

impl Source {
    /// Reads the files of a `src/` folder, without those that hold tests; `main.rs` is a crate of its own.
    pub(crate) fn read(src: &Path) -> Self {
        let mut source = Self::default();
        source.read_folder(src, &[], "");
        source
    }

    fn read_folder(&mut self, folder: &Path, module: &[String], prefix: &str) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let mut inner = module.to_vec();
            if path.is_dir() {
                inner.push(name.clone());
                self.read_folder(&path, &inner, &format!("{prefix}{name}/"));
                continue;
            }
            let is_source = path.extension().is_some_and(|ending| ending == "rs");
            if !is_source || name.ends_with("tests") || (prefix.is_empty() && name == "main") {
                continue;
            }
            if name != "mod" && !(prefix.is_empty() && name == "lib") {
                inner.push(name.clone());
            }
            self.read_file(&path, inner, format!("{prefix}{name}.rs"));
        }
    }

    fn read_file(&mut self, path: &Path, module: Absolute, file: String) {
        let text = std::fs::read_to_string(path).unwrap();
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let children = parsed.items.iter().filter_map(|item| match item {
            syn::Item::Mod(child) if child.content.is_none() => Some(child.ident.to_string()),
            _ => None,
        });
        let mut reader = Reader {
            module: module.clone(),
            file: &file,
            children: children.collect(),
            source: self,
        };
        reader.visit_file(&parsed);
        self.modules.insert(module, file);
    }

    /// All files.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.modules.values().map(String::as_str)
    }

    /// Each file and a file that it imports from.
    pub(crate) fn imports(&self) -> BTreeSet<(String, String)> {
        let named = self.named.iter();
        let imports = named.filter_map(|(file, path)| Some((file.clone(), self.declares(path, 0)?.clone())));
        imports.filter(|(from, to)| from != to).collect()
    }

    /// Each file and a crate that it names.
    pub(crate) fn crates_named(&self) -> impl Iterator<Item = &(String, String)> {
        self.foreign.iter()
    }

    /// The file that declares what a path leads to.
    fn declares(&self, path: &[String], passed_on: usize) -> Option<&String> {
        let mut module = Vec::new();
        for (at, segment) in path.iter().enumerate() {
            module.push(segment.clone());
            if self.modules.contains_key(&module) {
                continue;
            }
            module.pop();
            let target = self.passed_on.get(&module).and_then(|names| names.get(segment));
            // A name may be passed on several times, never in a circle.
            if let Some(target) = target.filter(|_| passed_on < 8) {
                let rest = [target.as_slice(), &path[at + 1..]].concat();
                return self.declares(&rest, passed_on + 1);
            }
            break;
        }
        self.modules.get(&module)
    }
}

struct Reader<'a> {
    module: Absolute,
    file: &'a str,
    children: BTreeSet<String>,
    source: &'a mut Source,
}

impl Reader<'_> {
    /// From the crate's root; `None` for what other crates have.
    fn absolute(&self, path: &[String]) -> Option<Absolute> {
        let mut base = self.module.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                base.clear();
                rest = &path[1..];
            }
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            child if self.children.contains(child) => {}
            _ => return None,
        }
        Some([base.as_slice(), rest].concat())
    }

    fn note(&mut self, path: &[String]) {
        match self.absolute(path) {
            Some(path) => {
                self.source.named.insert((self.file.to_owned(), path));
            }
            None => {
                self.source
                    .foreign
                    .insert((self.file.to_owned(), path[0].clone()));
            }
        }
    }

    /// A word alone is no import: a name, or the `super` of a visibility.
    fn note_words(&mut self, path: &[String]) {
        if path.len() > 1 {
            self.note(path);
        }
    }

    fn visit_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) if colons == 2 || path.is_empty() => {
                    path.push(name.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => self.visit_tokens(group.stream()),
                TokenTree::Ident(name) => {
                    self.note_words(&std::mem::take(&mut path));
                    path.push(name.to_string());
                    colons = 0;
                    continue;
                }
                _ => {}
            }
            if !path.is_empty() {
                self.note_words(&std::mem::take(&mut path));
            }
            colons = 0;
        }
        if !path.is_empty() {
            self.note_words(&path);
        }
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test"))
    })
}

/// Every path of a `use`, with the name that it gives it.
fn flatten(tree: &syn::UseTree, before: &[String], found: &mut Vec<(String, Absolute)>) {
    let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
    match tree {
        syn::UseTree::Path(path) => flatten(&path.tree, &with(&path.ident), found),
        syn::UseTree::Name(name) if name.ident == "self" => {
            found.push((before.last().cloned().unwrap_or_default(), before.to_vec()));
        }
        syn::UseTree::Name(name) => found.push((name.ident.to_string(), with(&name.ident))),
        syn::UseTree::Rename(rename) => found.push((rename.rename.to_string(), with(&rename.ident))),
        syn::UseTree::Glob(_) => found.push(("*".to_owned(), before.to_vec())),
        syn::UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, before, found);
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            _ => return syn::visit::visit_item(self, item),
        };
        if !is_for_tests(attributes) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_some() {
            self.module.push(item.ident.to_string());
            syn::visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    /// What may see an item says nothing of what the item sees.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut found = Vec::new();
        flatten(&item.tree, &[], &mut found);
        for (name, path) in found {
            let own = self.absolute(&path);
            let passes_on = !matches!(item.vis, syn::Visibility::Inherited);
            // What a module passes on of its own children it does not import.
            let is_own_child = own.as_ref().is_some_and(|path| path.starts_with(&self.module));
            if !passes_on || !is_own_child {
                self.note(&path);
            }
            if let Some(path) = own.filter(|_| passes_on) {
                let names = self.source.passed_on.entry(self.module.clone()).or_default();
                names.insert(name, path);
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if segments.len() > 1 {
            self.note(&segments);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.visit_tokens(list.tokens.clone());
        }
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.visit_tokens(item.tokens.clone());
        syn::visit::visit_macro(self, item);
    }
}
