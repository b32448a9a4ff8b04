use proptest::prelude::*;

use super::super::{DependsError, Files};
use super::Make;

/// The value of the variable `v` after reading `text`, with these files beside it.
fn value_with(text: &str, beside: &[(&str, &str)]) -> Result<String, DependsError> {
    let mut files: Files = beside.iter().map(|(n, t)| ((*n).to_owned(), t.as_bytes().to_vec())).collect();
    files.insert("Makefile".to_owned(), text.as_bytes().to_vec());
    let mut make = Make::new(&files, &[("given", "yes")]);
    make.include("Makefile")?;
    make.known(None, "v")
}

fn value(text: &str) -> String {
    value_with(text, &[]).unwrap()
}

fn refused(text: &str, words: &[&str]) {
    let error = value_with(text, &[]).unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "no {word:?} in {error:?} of {text:?}");
    }
}

#[test]
fn a_variable_is_expanded_when_it_is_used_or_when_it_is_set() {
    assert_eq!(value("v=$(x)\nx=late"), "late");
    assert_eq!(value("x:=early\nv:=$(x)\nx:=late"), "early");
    assert_eq!(value("x=1\nv?=$(x)\nv?=2\nx=3"), "3");
    assert_eq!(value("v=a\nv+=$(x)\nx=b"), "a b");
    assert_eq!(value("x=b\nv:=a\nv+=$(x)\nx=c"), "a b");
    assert_eq!(value("p=q\n$(p)_x = 1\nv=$($(p)_x)${p}$p$$"), "1qq$");
    assert_eq!(
        value("given=no\nv=$(given) $(origin given) $(origin v) $(origin w)"),
        "yes command line file undefined"
    );
}

#[test]
fn comments_and_continued_lines_read_as_make_reads_them() {
    assert_eq!(value("v = a \\\n   b \\\n\tc # d\n"), "a b c ");
    assert_eq!(value("# v=1 \\\nv=2\nv=3"), "3");
    assert_eq!(value("v=a\\#b#c"), "a#b");
    assert_eq!(value("v=a\\\\#c"), "a\\");
}

#[test]
fn conditions_choose_what_is_set() {
    let text = |x: &str| {
        format!(
            "x={x}\nifeq ($(x),1)\nv=one\nelse ifneq (,$(findstring 2,$(x)))\nv=two\n  ifeq (a,b)\n  v=no\n  endif\nelse\nv=more\nendif # x\n"
        )
    };
    assert_eq!(value(&text("1")), "one");
    assert_eq!(value(&text("123")), "one".replace("one", "two"));
    assert_eq!(value(&text("3")), "more");
    assert_eq!(value("ifeq \"a\" 'a'\nv=1\nendif"), "1");
    assert_eq!(value("x=1\nifdef x\nv=1\nendif\nifndef x\nv=2\nendif\nifdef y\nv=3\nendif"), "1");
}

#[test]
fn functions_have_their_values() {
    for (text, expected) in [
        ("$(subst a,b,banana)", "bbnbnb"),
        ("$(strip   a   b )", "a b"),
        ("$(findstring linux,linux-gnu)", "linux"),
        ("$(findstring darwin,linux-gnu)", ""),
        ("$(filter a% %z c,ab xyz c d)", "ab xyz c"),
        ("$(filter-out a%,ab c)", "c"),
        ("$(sort b a b)", "a b"),
        ("$(word 2,a b c)", "b"),
        ("$(word 9,a b c)", ""),
        ("$(firstword $(subst -, ,x86_64-pc-linux))", "x86_64"),
        ("$(addprefix a/,b c)", "a/b a/c"),
        ("$(addsuffix .x,b c)", "b.x c.x"),
        ("$(if ,a,b)$(if x,c)$(if ,d)", "bc"),
        ("$(or ,,x,y)$(and a,b)$(and a,,b)", "xb"),
        ("$(foreach i,1 2,<$(i)>)", "<1> <2>"),
        ("$(call f,a,$(call f,b,c))$(1)", "a-b-c"),
    ] {
        assert_eq!(value(&format!("f=$(1)-$(2)\nv={text}")), expected, "{text}");
    }
}

#[test]
fn what_is_evaluated_is_read_like_a_file() {
    let text = "define f\n$(1)_x := $$(word 2,$(2))\nifeq ($(1),b)\nv=$$($(1)_x)\nendif\nendef\n\
                $(foreach p,a b,$(eval $(call f,$(p),1 2)))\n";
    assert_eq!(value(text), "2");
}

#[test]
fn a_loop_hides_a_variable_of_its_name() {
    let beside = [("a.mk", "p=other\n$(p)_x=1\n"), ("b.mk", "v=2")];
    assert_eq!(
        value_with("$(foreach p,a b,$(eval include $(p).mk))\nv=$(a_x)$(p)", &beside).unwrap(),
        "1other"
    );
}

#[test]
fn rules_and_their_recipes_are_passed_over() {
    let text =
        "all: $(x) ; echo\n\tv=1\n\t$(if $(unclosed\n# c\n\tv=2\n.PHONY: all\nv=3\n$(V).SILENT:\n\tv=4\n";
    assert_eq!(value(text), "3");
}

#[test]
fn what_only_a_shell_could_say_is_an_error_only_for_whom_it_concerns() {
    assert_eq!(value("x:=$(shell date)\ny=$(subst a,b,$(x))\nv=1"), "1");
    refused("x:=$(shell date)\ny=a$(x)\nv=$(y)", &["Makefile line 1", "v cannot be known", "shell"]);
    refused("x!=date\nv=$(x)", &["Makefile line 1"]);
    refused("\nv=$(wildcard *)", &["Makefile line 2", "wildcard"]);
    refused("x=a.b\nv=$(x:.b=.c)", &["substitution"]);
    refused("v=1\nifeq ($(shell date),x)\nv=2\nendif", &["Makefile line 2", "shell"]);
    refused("v=1\nifeq ($(shell date),x)\nelse\nv=2\nendif", &["Makefile line 2"]);
    refused("v=1\n$(if $(shell date),$(eval v=2))", &["whether something is set"]);
    refused("v=1\n$(foreach i,$(shell date),$(eval v=2))", &["whether something is set"]);
    refused("v=1\nifeq ($(shell date),x)\n$(eval v=2)\nendif", &["whether something is set"]);
    refused("v=1\n$(shell date)=2", &["which variable"]);
    refused("include $(shell date).mk", &["which file"]);
    refused("ifeq ($(shell date),x)\ninclude a.mk\nendif", &["whether a file"]);
}

#[test]
fn what_is_not_understood_names_its_line() {
    for (text, words) in [
        ("v=1\n\nexport v", ["line 3", "export"]),
        ("v=1\nnonsense", ["line 2", "neither an assignment nor a rule"]),
        ("v=1\nv=$(v", ["line 2", "does not end"]),
        ("ifeq (a)\nendif", ["line 1", "two sides"]),
        ("\nelse", ["line 2", "without a condition"]),
        ("endif", ["line 1", "without a condition"]),
        ("ifeq (a,a)", ["line 1", "no endif"]),
        ("define x", ["line 1", "no endef"]),
        ("include ../x.mk", ["line 1", "out of the folder"]),
        ("include /etc/x.mk", ["line 1", "out of the folder"]),
        ("include x.mk", ["line 1", "no file x.mk"]),
        ("v=\u{1}0\u{1}", ["Makefile", "control character"]),
        ("v=$(v)", ["line 1", "refers to itself"]),
        ("include Makefile", ["line 1", "refers to itself"]),
    ] {
        refused(text, &words);
    }
}

#[test]
fn what_would_grow_without_end_ends() {
    let doubling = format!("v=x\n{}", "v:=$(v)$(v)\n".repeat(60));
    let multiplying = format!("x={}\nv=$(subst a,$(x),$(subst a,$(x),$(x)))", "a".repeat(10_000));
    let prefixes = format!("x={}\nv=$(addprefix $(x),$(x))", "a ".repeat(100_000));
    let patterns = format!("x={}\nv=$(filter $(x),$(x))", "a ".repeat(100_000));
    let loops = format!("x={}\nv=$(foreach i,$(x),$(foreach j,$(x),$(foreach k,$(x),))))", "a ".repeat(1000));
    let arguments = format!("x:={}\nv=$(call f{})", "a".repeat(500_000), ",$(x)".repeat(10_000));
    let deep = format!("v={}x{}", "$(strip ".repeat(5000), ")".repeat(5000));
    for text in [doubling, multiplying, prefixes, patterns, loops, arguments, deep] {
        let start = std::time::Instant::now();
        assert!(value_with(&text, &[]).is_err(), "{text:.60}");
        assert!(start.elapsed().as_secs() < 20, "{text:.60}");
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".{0,300}") {
        let _ = value_with(&text, &[]);
    }

    #[test]
    fn arbitrary_makefiles_never_panic(
        pieces in proptest::collection::vec(proptest::sample::select(vec![
            "v", "x", "=", ":=", "+=", "?=", "!=", "$(", "${", ")", "}", "$", "$$", "\\", "#", ",", ":", " ", "\t", "\n",
            "\n\t", "ifeq (", "ifneq \"", "else ", "endif\n", "define ", "endef\n", "include ", "Makefile", "call ",
            "foreach ", "eval ", "if ", "or ", "subst ", "shell ", "word ", "filter ", "%", "1", "ä",
        ]), 0..60),
    ) {
        let _ = value_with(&pieces.concat(), &[]);
    }
}
