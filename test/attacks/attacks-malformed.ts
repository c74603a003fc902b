import type { Attack } from './attacks.js';

export const malformed: Record<string, Attack> = {};
