//! Encoders as ONNX files, which this test makes itself. Where ONNX Runtime is not found (`MICROTOME_ONNXRUNTIME`), the test looks
//! at the message that says so.

#![allow(clippy::disallowed_methods)] // Test files need not survive a power cut.

mod common;

use common::{microtome, put, succeed};
use std::path::Path;

/// A field of a protobuf message.
enum Field {
    Number(u32, u64),
    Bytes(u32, Vec<u8>),
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn message(fields: Vec<Field>) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        match field {
            Field::Number(number, value) => {
                varint(u64::from(number << 3), &mut out);
                varint(value, &mut out);
            }
            Field::Bytes(number, bytes) => {
                varint(u64::from(number << 3 | 2), &mut out);
                varint(bytes.len() as u64, &mut out);
                out.extend(bytes);
            }
        }
    }
    out
}

fn text(number: u32, text: &str) -> Field {
    Field::Bytes(number, text.as_bytes().to_vec())
}

/// A node with attributes that are lists of whole numbers.
fn node(operator: &str, inputs: &[&str], output: &str, attributes: &[(&str, &[u64])]) -> Field {
    let mut fields: Vec<Field> = inputs.iter().map(|input| text(1, input)).collect();
    fields.extend([text(2, output), text(4, operator)]);
    for (name, values) in attributes {
        let mut own = vec![text(1, name)];
        own.extend(values.iter().map(|value| Field::Number(8, *value)));
        own.push(Field::Number(20, 7));
        fields.push(Field::Bytes(5, message(own)));
    }
    Field::Bytes(1, message(fields))
}

/// A tensor of floats that goes in or out.
fn value(number: u32, name: &str, shape: &[u64]) -> Field {
    let side = |side: &u64| {
        let own = if *side == 0 { text(2, "n") } else { Field::Number(1, *side) };
        Field::Bytes(1, message(vec![own]))
    };
    let shape = message(shape.iter().map(side).collect());
    let tensor = message(vec![Field::Number(1, 1), Field::Bytes(2, shape)]);
    let kind = message(vec![Field::Bytes(1, tensor)]);
    Field::Bytes(number, message(vec![text(1, name), Field::Bytes(2, kind)]))
}

/// An ONNX file (IR version 8, operators of version 13) of pictures `[n, 3, 32, 32]`.
fn network(mut graph: Vec<Field>, output: &[u64]) -> Vec<u8> {
    graph.extend([text(2, "g"), value(11, "x", &[0, 3, 32, 32]), value(12, "y", output)]);
    let operators = message(vec![text(1, ""), Field::Number(2, 13)]);
    message(vec![Field::Number(1, 8), Field::Bytes(7, message(graph)), Field::Bytes(8, operators)])
}

const POOL: [(&str, &[u64]); 2] = [("kernel_shape", &[8, 8]), ("strides", &[8, 8])];

/// Mean colours of squares of 8 px.
fn map() -> Vec<u8> {
    network(vec![node("AveragePool", &["x"], "y", &POOL)], &[0, 3, 4, 4])
}

/// The same as tokens, `[n, 16, 3]`.
fn tokens() -> Vec<u8> {
    let mut shape = vec![Field::Number(1, 3), Field::Number(2, 7), text(8, "s")];
    // 0 keeps the number of pictures.
    shape.extend([0, 3, 16].map(|side| Field::Number(7, side)));
    let graph = vec![
        node("AveragePool", &["x"], "a", &POOL),
        node("Reshape", &["a", "s"], "b", &[]),
        node("Transpose", &["b"], "y", &[("perm", &[0, 2, 1])]),
        Field::Bytes(5, message(shape)),
    ];
    network(graph, &[0, 16, 3])
}

/// The mean colour.
fn vector() -> Vec<u8> {
    let graph = vec![node("GlobalAveragePool", &["x"], "a", &[]), node("Flatten", &["a"], "y", &[])];
    network(graph, &[0, 3])
}

const SETTINGS: &str = "input_px = 32\nmean = [0.7, 0.6, 0.7]\ndeviation = [0.2, 0.2, 0.2]\noutput = ";

/// Pictures that are violet left and pink right of a border, with masks.
fn put_pictures(folder: &Path) {
    for name in ["pictures", "masks"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    for picture in 0..3u32 {
        let border = 70 + 20 * picture;
        let colour = |x: u32, y: u32| {
            let noise = ((x * 31 + y * 17) % 23) as u8;
            image::Rgb(if x < border {
                [120 + noise, 70 + noise, 160 + noise]
            } else {
                [220 + noise, 150 + noise, 190 + noise]
            })
        };
        image::RgbImage::from_fn(192, 160, colour)
            .save(folder.join(format!("pictures/p{picture}.png")))
            .unwrap();
        let class = |x: u32, _| image::Luma([u8::from(x >= border)]);
        image::GrayImage::from_fn(192, 160, class)
            .save(folder.join(format!("masks/p{picture}.png")))
            .unwrap();
    }
}

#[test]
fn networks_of_every_kind_of_output_are_encoders() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    put_pictures(folder);
    succeed(folder, &["project", "init", "p", "--classes", "violet,pink"]);
    succeed(folder, &["project", "add", "p", "pictures"]);
    succeed(folder, &["tissue", "tile", "p", "--side", "32", "--step", "16", "--named", "16"]);
    put(folder, "map.onnx", map());
    let pretrain = |kind: &str| microtome(folder, &["tissue", "pretrain", "p", "--encoder", kind]);
    let ended = pretrain("map.onnx");
    assert!(ended.code == 2 && ended.stderr.contains("needs a file beside it"), "{ended:?}");
    put(folder, "map.toml", format!("{SETTINGS}\"map\"\n"));
    let ended = pretrain("map.onnx");
    if ended.code != 0 {
        assert!(ended.code == 2 && ended.stderr.contains("ONNX Runtime"), "{ended:?}");
        assert!(
            ended.stderr.contains("pip install onnxruntime")
                && std::env::var_os("MICROTOME_ONNXRUNTIME").is_none()
        );
        return;
    }
    for (name, bytes) in [("map", map()), ("tokens", tokens()), ("vector", vector())] {
        put(folder, format!("{name}.onnx"), bytes);
        put(folder, format!("{name}.toml"), format!("{SETTINGS}\"{name}\"\n"));
        let ended = pretrain(&format!("{name}.onnx"));
        assert_eq!(ended.code, 0, "{name}: {ended:?}");
        succeed(folder, &["tissue", "embed", "p"]);
        succeed(folder, &["tissue", "cluster", "p", "--k", "4"]);
        succeed(folder, &["tissue", "name", "p", "--oracle", "masks"]);
        succeed(folder, &["tissue", "query", "p", "--out", name]);
        let scores = succeed(
            folder,
            &["evaluate", "--task", "tissue", "--predicted", name, "--truth", "masks", "--json"],
        );
        let scores: serde_json::Value = serde_json::from_str(&scores.stdout).unwrap();
        let dice = scores["mean_dice"].as_f64().unwrap();
        assert!(dice > 0.93, "{name}: {dice}");
    }
    // What is said of a network is held against what it gives.
    put(folder, "vector.toml", format!("{SETTINGS}\"tokens\"\n"));
    let ended = pretrain("vector.onnx");
    assert!(ended.code == 3 && ended.stderr.contains("which is no tokens"), "{ended:?}");
    put(folder, "bad.onnx", "no network");
    put(folder, "bad.toml", format!("{SETTINGS}\"vector\"\n"));
    let ended = pretrain("bad.onnx");
    assert!(ended.code == 3 && ended.stderr.contains("bad.onnx"), "{ended:?}");
    put(folder, "small.toml", format!("{}\"map\"\n", SETTINGS.replace("32", "40")));
    put(folder, "small.onnx", map());
    let ended = pretrain("small.onnx");
    assert!(ended.code == 3 && ended.stderr.contains("does not take pictures"), "{ended:?}");
    // Another file of that name is not taken for the one that the project was made with.
    put(folder, "tokens.toml", format!("{SETTINGS}\"tokens\"\n"));
    assert_eq!(pretrain("tokens.onnx").code, 0);
    put(folder, "tokens.onnx", map());
    let ended = microtome(folder, &["tissue", "embed", "p"]);
    assert!(ended.code == 3 && ended.stderr.contains("not the one"), "{ended:?}");
}
