use proptest::prelude::*;

use super::*;

fn image(extra: &str) -> String {
    let d = Digest::of(b"x");
    format!(
        "{{\"schemaVersion\":2,\"config\":{{\"mediaType\":\"c/t\",\"digest\":\"{d}\",\"size\":1}},\
         \"layers\":[{{\"mediaType\":\"l/t\",\"digest\":\"{d}\",\"size\":1}}]{extra}}}"
    )
}

#[test]
fn an_image_points_at_its_config_layers_and_subject() {
    let d = Digest::of(b"s");
    let subject = format!(",\"subject\":{{\"mediaType\":\"m/t\",\"digest\":\"{d}\",\"size\":9}}");
    let outline = Outline::read(media_type::IMAGE_MANIFEST, image(&subject).as_bytes()).unwrap();
    let kinds: Vec<_> = outline.edges.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EdgeKind::Config, EdgeKind::Layer, EdgeKind::Subject]);
    assert_eq!(outline.subject, Some(d));
    assert_eq!(outline.artifact_type.as_deref(), Some("c/t"));
}

#[test]
fn a_document_that_could_be_read_two_ways_is_refused() {
    let both = image(",\"manifests\":[]");
    for sent in [media_type::IMAGE_MANIFEST, media_type::IMAGE_INDEX] {
        assert!(matches!(Outline::read(sent, both.as_bytes()), Err(OutlineError::Ambiguous)));
    }
    let said = image(&format!(",\"mediaType\":\"{}\"", media_type::DOCKER_MANIFEST));
    let read = Outline::read(media_type::IMAGE_MANIFEST, said.as_bytes());
    assert!(matches!(read, Err(OutlineError::Disagreement { .. })));
    let twice = image(",\"config\":null");
    assert!(Outline::read(media_type::IMAGE_MANIFEST, twice.as_bytes()).is_err());
}

#[test]
fn a_name_that_go_reads_otherwise_is_refused_at_every_level() {
    let d = Digest::of(b"x");
    let pointer = |more: &str| format!("{{\"mediaType\":\"m/t\",\"digest\":\"{d}\",\"size\":1{more}}}");
    for extra in [
        ",\"LAYERS\":[]".to_owned(),
        ",\"Config\":null".to_owned(),
        ",\"annotations\":{\"a\":\"1\",\"a\":\"2\"}".to_owned(),
        ",\"x\":{\"y\":[{\"z\":1,\"z\":2}]}".to_owned(),
        ",\"\u{17f}ubject\":null".to_owned(),
        ",\"x\":1,\"X\":2".to_owned(),
        format!(",\"subject\":{}", pointer(",\"Digest\":\"\"")),
        format!(",\"subject\":{}", pointer(",\"annotations\":{\"a\":\"\",\"a\":\"\"}")),
        format!(",\"blobs\":[{}]", pointer(",\"URLs\":[]")),
    ] {
        let read = Outline::read(media_type::IMAGE_MANIFEST, image(&extra).as_bytes());
        assert!(matches!(read, Err(OutlineError::Json(_))), "{extra}: {read:?}");
        assert_eq!(Outline::media_type_within(image(&extra).as_bytes()), None);
    }
    for member in [
        pointer(",\"platform\":{\"os\":\"linux\",\"OS\":\"windows\",\"architecture\":\"amd64\"}"),
        pointer(",\"Platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}"),
    ] {
        let index = format!("{{\"schemaVersion\":2,\"manifests\":[{member}]}}");
        assert!(Outline::read(media_type::IMAGE_INDEX, index.as_bytes()).is_err(), "{index}");
    }
    let notes = image(",\"annotations\":{\"layers\":\"\",\"LAYERS\":\"\"}");
    Outline::read(media_type::IMAGE_MANIFEST, notes.as_bytes()).unwrap();
}

#[test]
fn an_index_lists_manifests_as_such_and_everything_else_as_blobs() {
    let pointer = |kind: &str, text: &[u8]| {
        let (digest, size) = (Digest::of(text), text.len());
        format!("{{\"mediaType\":\"{kind}\",\"digest\":\"{digest}\",\"size\":{size}}}")
    };
    let list = |field: &str, list: &[String]| format!("\"{field}\":[{}]", list.join(","));
    let members = [
        pointer(media_type::DOCKER_MANIFEST, b"image"),
        pointer(media_type::IMAGE_INDEX, b"index"),
        pointer(media_type::LAYER_GZIP, b"layer"),
        pointer("application/vnd.buildkit.cacheconfig.v0", b"cache"),
        pointer("application/vnd.oci.artifact.manifest.v1+json", b"artifact"),
    ];
    let more = list("blobs", &[pointer("b/t", b"blob")]);
    let cache = format!("{{\"schemaVersion\":2,{},{more}}}", list("manifests", &members));
    for kind in [media_type::IMAGE_INDEX, media_type::DOCKER_MANIFEST_LIST] {
        let edges = Outline::read(kind, cache.as_bytes()).unwrap().edges;
        assert!(edges.iter().all(|edge| edge.listed));
        let of = |kind| edges.iter().filter(move |edge| edge.kind == kind).map(|edge| edge.digest.clone());
        let manifests: Vec<_> = of(EdgeKind::Manifest).collect();
        assert_eq!(manifests, [b"image", b"index"].map(|text| Digest::of(text)));
        assert_eq!(of(EdgeKind::Layer).count(), 4);
    }
    let edges = Outline::read(media_type::IMAGE_MANIFEST, image(&format!(",{more}")).as_bytes());
    let listed: Vec<_> = edges.unwrap().edges.iter().map(|edge| edge.listed).collect();
    assert_eq!(listed, [false, false, true]);
}

#[test]
fn content_that_a_descriptor_holds_is_what_it_describes_wherever_it_stands() {
    let pointer = |size: usize, data: &str| {
        let digest = Digest::of(b"{}");
        format!("{{\"mediaType\":\"m/t\",\"digest\":\"{digest}\",\"size\":{size},\"data\":{data}}}")
    };
    let image = |config: &str, layer: &str, more: &str| {
        format!("{{\"schemaVersion\":2,\"config\":{config},\"layers\":[{layer}]{more}}}")
    };
    let good = pointer(2, "\"e30=\"");
    for (wrong, why) in [
        (pointer(2, "\"W10=\""), EmbeddedError::Digest { found: Digest::of(b"[]") }),
        (pointer(3, "\"e30=\""), EmbeddedError::Size { expected: 3, found: 2 }),
        (pointer(2, "\"{}\""), EmbeddedError::Encoding),
    ] {
        let index = format!("{{\"schemaVersion\":2,\"manifests\":[{good},{wrong}]}}");
        for (kind, text) in [
            (media_type::IMAGE_MANIFEST, image(&wrong, &good, "")),
            (media_type::IMAGE_MANIFEST, image(&good, &wrong, "")),
            (media_type::IMAGE_MANIFEST, image(&good, &good, &format!(",\"blobs\":[{wrong}]"))),
            (media_type::IMAGE_MANIFEST, image(&good, &good, &format!(",\"subject\":{wrong}"))),
            (media_type::IMAGE_INDEX, index),
        ] {
            match Outline::read(kind, text.as_bytes()) {
                Err(OutlineError::Embedded { source, .. }) => assert_eq!(source, why, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
    for good in [good, pointer(2, "null")] {
        let text = image(&good, &good, &format!(",\"subject\":{good}"));
        Outline::read(media_type::IMAGE_MANIFEST, text.as_bytes()).unwrap();
    }
}

#[test]
fn an_image_whose_configuration_nobody_would_read_is_refused_and_an_artifact_is_not() {
    let read = |kind: &str, size: u64| {
        let pointer =
            format!("{{\"mediaType\":\"{kind}\",\"digest\":\"{}\",\"size\":{size}}}", Digest::of(b"x"));
        let text = format!("{{\"schemaVersion\":2,\"config\":{pointer},\"layers\":[]}}");
        Outline::read(media_type::IMAGE_MANIFEST, text.as_bytes())
    };
    for kind in [media_type::IMAGE_CONFIG, media_type::DOCKER_CONFIG] {
        read(kind, LARGEST_CONFIG).unwrap();
        let refused = read(kind, LARGEST_CONFIG + 1);
        assert!(matches!(refused, Err(OutlineError::LargeConfig(_))), "{refused:?}");
    }
    read("application/vnd.example.config", LARGEST_CONFIG + 1).unwrap();
}

#[test]
fn bad_digests_versions_and_sizes_are_refused() {
    let good = image("");
    let latin = [&good.as_bytes()[..good.len() - 1], b",\"x\":\"\xe4\"}"].concat();
    assert!(matches!(Outline::read(media_type::IMAGE_MANIFEST, &latin), Err(OutlineError::Json(_))));
    for (from, to) in [("sha256:", "sha256:../"), ("\"size\":1", "\"size\":-1"), (":2,", ":1,")] {
        let bad = good.replacen(from, to, 1);
        assert!(Outline::read(media_type::IMAGE_MANIFEST, bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(matches!(Outline::read("text/html", good.as_bytes()), Err(OutlineError::MediaType(_))));
}

proptest! {
    #[test]
    fn bytes_from_outside_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Outline::read(media_type::IMAGE_MANIFEST, &bytes);
        let _ = Outline::media_type_within(&bytes);
    }

    #[test]
    fn a_cut_manifest_is_refused(at in 0usize..100) {
        let text = image("");
        let cut = &text[..at.min(text.len() - 1)];
        prop_assert!(Outline::read(media_type::IMAGE_MANIFEST, cut.as_bytes()).is_err());
    }
}
