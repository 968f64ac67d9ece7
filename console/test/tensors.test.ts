import { describe, expect, it } from "vitest";
import { curl, example, fitted, imageLayout, imageShape, parsed, pixels } from "../src/tensors";

const row = { name: "x", datatype: "FP32", shape: [-1, 3] };

describe("requests from what was typed", () => {
  it("takes numbers between anything, and JSON", () => {
    expect(parsed(row, "1, 2 3\n4;5,6")).toEqual({ name: "x", datatype: "FP32", shape: [2, 3], data: [1, 2, 3, 4, 5, 6] });
    expect(parsed(row, "[[1, 2, 3]]").shape).toEqual([1, 3]);
  });

  it("says what is wrong", () => {
    expect(() => parsed(row, "1, 2")).toThrow("do not fill");
    expect(() => parsed(row, "1, two, 3")).toThrow("two is no number");
    expect(() => parsed(row, "")).toThrow("at least one");
    expect(() => parsed({ ...row, datatype: "INT64" }, "1 2 3.5")).toThrow("not whole");
    expect(() => parsed(row, "[1, null, 3]")).toThrow("no number");
  });

  it("takes texts as they are", () => {
    const words = { name: "text", datatype: "BYTES", shape: [-1, 1] };
    expect(parsed(words, "It's [fine], 1")).toEqual({ name: "text", datatype: "BYTES", shape: [1, 1], data: ["It's [fine], 1"] });
    expect(parsed(words, '["a", "b"]').shape).toEqual([2, 1]);
  });

  it("knows truth", () => {
    expect(parsed({ name: "b", datatype: "BOOL", shape: [2] }, "true 0").data).toEqual([true, false]);
  });

  it("fills open dimensions", () => {
    expect(fitted({ name: "x", datatype: "FP32", shape: [-1, -1] }, [4], 4)).toEqual([1, 4]);
    expect(fitted({ name: "x", datatype: "FP32", shape: [-1] }, [4], 4)).toEqual([4]);
    expect(example(row)).toBe("0, 0, 0");
    expect(parsed(row, example(row)).shape).toEqual([1, 3]);
  });

  it("sees where an image fits", () => {
    const first = imageLayout({ name: "i", datatype: "FP32", shape: [-1, 3, 32, 16] });
    expect(first).toEqual({ channels: 3, height: 32, width: 16, first: true });
    expect(imageLayout({ name: "i", datatype: "UINT8", shape: [-1, -1, -1, 3] })).toMatchObject({ height: 224, first: false });
    expect(imageLayout(row)).toBeNull();
    expect(imageShape({ name: "i", datatype: "FP32", shape: [-1, 3, 32, 16] }, first!)).toEqual([1, 3, 32, 16]);
  });

  it("orders pixels as the model wants them", () => {
    const rgba = [255, 0, 51, 255, 0, 255, 102, 255];
    const layout = { channels: 3, height: 1, width: 2, first: true };
    expect(pixels(rgba, layout, "1", false)).toEqual([1, 0, 0, 1, 0.2, 0.4]);
    expect(pixels(rgba, { ...layout, first: false }, "255", true)).toEqual([255, 0, 51, 0, 255, 102]);
  });

  it("quotes for a shell", () => {
    expect(curl("http://localhost/x", '{"a": "it\'s"}')).toContain("'{\"a\": \"it'\\''s\"}'");
  });
});
