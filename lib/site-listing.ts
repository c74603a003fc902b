import { formatSize } from './format.js';
import { encodeSitePath } from './site-path.js';

/** One line of a directory's page. */
export interface ListingEntry {
  readonly name: string;
  readonly directory: boolean;
  /** Bytes; of no meaning for a directory. */
  readonly size: number;
  readonly modifiedMs: number;
}

const STYLE = `
:root{color-scheme:light dark}
body{font:16px/1.6 system-ui,sans-serif;max-width:48rem;margin:3rem auto;padding:0 1.25rem}
h1{font-size:1.4rem;font-weight:600;overflow-wrap:anywhere}
table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums}
th{font-size:.8rem;font-weight:600;opacity:.7}
th,td{text-align:left;padding:.4rem .75rem .4rem 0;border-bottom:1px solid #8884}
td:first-child{width:100%;overflow-wrap:anywhere}
td+td{white-space:nowrap;opacity:.8}
.size{text-align:right}
a{text-decoration:none}
a:hover{text-decoration:underline}
`;

/**
 * Renders the page of a directory that has no index of its own.
 *
 * @param segments - The directory's names below the site's root.
 * @param entries - What to list, in any order.
 * @param complete - Whether these are all of the directory's entries.
 * @returns A whole HTML document; every name in it is escaped.
 */
export function renderListing(
  segments: readonly string[],
  entries: readonly ListingEntry[],
  complete: boolean,
): string {
  const title = escapeHtml(`/${segments.map((name) => `${name}/`).join('')}`);
  const byName = new Intl.Collator('en', { numeric: true });
  const sorted = [...entries].sort(
    (a, b) => Number(b.directory) - Number(a.directory) || byName.compare(a.name, b.name),
  );
  const rows = sorted.map(renderEntry);
  if (segments.length > 0) rows.unshift('<tr><td><a href="../">../</a></td><td></td><td></td></tr>');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>${title}</h1>
<table>
<thead><tr><th>Name</th><th class="size">Size</th><th>Modified (UTC)</th></tr></thead>
<tbody>
${rows.join('\n')}
</tbody>
</table>
${complete ? '' : `<p>Only the first ${entries.length} entries are shown.</p>\n`}</body>
</html>
`;
}

function renderEntry(entry: ListingEntry): string {
  const label = escapeHtml(entry.directory ? `${entry.name}/` : entry.name);
  const href = escapeHtml(`.${encodeSitePath([entry.name], entry.directory)}`);
  const size = entry.directory ? '' : formatSize(entry.size);
  const modified = new Date(entry.modifiedMs).toISOString().slice(0, 16);
  return (
    `<tr><td><a href="${href}">${label}</a></td><td class="size">${size}</td>` +
    `<td><time datetime="${modified}Z">${modified.replace('T', ' ')}</time></td></tr>`
  );
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? character);
}
