import { parseSize } from '../../lib/format.js';

export interface Block {
  readonly language: string;
  readonly code: string;
}

/** The code blocks of a page. */
export function blocks(markdown: string): Block[] {
  return [...markdown.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map(([, language = '', code = '']) => ({
    language,
    code,
  }));
}

export function withoutBlocks(markdown: string): string {
  return markdown.replace(/^```[\s\S]*?^```$/gm, '');
}

export function withoutCode(markdown: string): string {
  return withoutBlocks(markdown).replace(/`[^`\n]*`/g, '');
}

/** A heading's anchor, as GitHub makes it. */
function anchor(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');
}

export function anchors(markdown: string): string[] {
  return [...withoutBlocks(markdown).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) => anchor(heading));
}

/** The text of a page's part, from its heading to the next one of its level or above. */
export function part(markdown: string, heading: string): string {
  const level = heading.indexOf(' ');
  const [, after] = markdown.split(`\n${heading}\n`);
  if (after === undefined) throw new Error(`no part is called ${heading}`);
  return after.split(new RegExp(`^#{1,${level}} `, 'm'))[0] ?? '';
}

/** The rows of the first table in a text, without its head. */
export function rows(markdown: string): string[][] {
  const lines = markdown.split('\n');
  const begin = lines.findIndex((line) => line.startsWith('|'));
  if (begin < 0) throw new Error('no table');
  const end = lines.findIndex((line, index) => index > begin && !line.startsWith('|'));
  return lines.slice(begin + 2, end).map((line) =>
    line
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim()),
  );
}

/** What a cell says, a size or a plain number; `NaN`: neither. */
export function number(cell: string | undefined): number {
  return parseSize(cell?.replaceAll(',', '') ?? '') ?? Number.NaN;
}
