// The little of Markdown that a notice is written in, as lines with their kind.

export interface Line {
  kind: "heading" | "point" | "text";
  parts: { text: string; isStrong: boolean }[];
}

export function linesOf(text: string): Line[] {
  const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
  return lines.map((line) => {
    const [, sign = "", rest = ""] = line.match(/^(#+|-|\d+\.)?\s*(.*)$/) ?? [];
    const kind = sign.startsWith("#") ? "heading" : sign ? "point" : "text";
    const shown = /^\d/.test(sign) ? `${sign} ${rest}` : rest;
    return { kind, parts: shown.split("**").map((part, index) => ({ text: part, isStrong: index % 2 === 1 })).filter(({ text: part }) => part) };
  });
}
